"""CIFAR-10, Python version: the checksums of its members, and where its archive may already exist.

The data is identified by the sha256 of each member, not of the archive: a repacked archive is accepted, an
altered byte is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ARCHIVE, EXTRACTED = "cifar-10-python.tar.gz", "cifar-10-batches-py"


@dataclass(frozen=True)
class Member:
    """One file of the archive: its name in the folder, its size in bytes and its sha256."""

    name: str
    bytes: int
    sha256: str


# Computed from files whose md5 sums match those in torchvision's datasets/cifar.py.
MEMBERS = (
    Member("data_batch_1", 31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
    Member("data_batch_2", 31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
    Member("data_batch_3", 31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
    Member("data_batch_4", 31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
    Member("data_batch_5", 31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
    Member("test_batch", 31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
    Member("batches.meta", 158, "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"),
)


def find_existing(folder: Path, keras_home: Path | None) -> list[Path]:
    """Return the archives and extracted folders, not yet checked, in folder and in the Keras cache.

    keras_home is KERAS_HOME or ~/.keras; None skips the Keras cache. The most likely ones come first.
    """
    candidates = [Path(folder) / name for name in (ARCHIVE, EXTRACTED)]
    if keras_home is not None:
        # Keras 3, Keras 2, and what was copied by hand.
        cached = [f"{EXTRACTED}-target_archive", f"{EXTRACTED}.tar.gz", ARCHIVE]
        cached += [f"{EXTRACTED}-target/{EXTRACTED}", EXTRACTED]
        candidates += [Path(keras_home) / "datasets" / name for name in cached]
    return [path for path in candidates if path.exists()]
