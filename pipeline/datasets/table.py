"""The data sets, one row each; a row says where the images come from and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import BadInput, DamagedFile, unknown_name

if TYPE_CHECKING:
    import numpy as np

FOLDER = "folder:"  # before the path of a folder of one's own pictures
IMAGE_SIZE = 32  # pixels a side of every prepared image: CIFAR-10's own, and the least that VGG16 takes


class RawImages(NamedTuple):
    """What a reader returns: all images in their source's order."""

    images: np.ndarray  # (N, 32, 32, 3) uint8, RGB
    labels: np.ndarray  # (N,) int64, 0 … C-1
    names: list[str]  # N file names, as in the source
    class_names: tuple[str, ...]  # C
    is_test: np.ndarray | None  # (N,) bool, the source's own test part; None when it has none
    content: np.ndarray | None = None  # (N, 32) uint8, sha256 of each image, where that decides its split
    given: np.ndarray | None = None  # (N,) uint8, the split that the source gives, 255 where it gives none
    unreadable: tuple[tuple[str, str], ...] = ()  # name of a file, and why it is none of the images
    identity: str | None = None  # of the bytes that were read, to be compared with the row's source


@dataclass(frozen=True)
class Dataset:
    """A data set: its reader `module:function`, called with the downloaded file or None."""

    name: str
    title: str
    reader: str
    source: str  # identity of the bytes that the reader accepts; it is in every key
    size: int  # images in all, the largest subset
    download: str | None  # the Luigi task whose `file` it is; None when the data come with a package
    val_fraction: float  # of the images that are not test
    test_fraction: float  # of all images; used where the source has no test part of its own
    note: str = ""  # what a reader of a figure must know, in every caption
    order: str = "sha256"  # what images are split by: "sha256" of seed and position, or of their "content"
    fitting: str = ""  # how images of any size become square, where they come so


DATASETS: dict[str, Dataset] = {
    row.name: row
    for row in (
        Dataset(
            name="cifar10",
            title="CIFAR-10",
            reader="pipeline.datasets.readers:read_cifar10",
            source="cifar-10-batches-py, seven members by sha256",
            size=60_000,
            download="DownloadCifar10",
            val_fraction=0.1,
            test_fraction=0.0,
        ),
        Dataset(
            name="digits",
            title="digits",
            note="1,797 scanned digits; a demonstration, not CIFAR-10",
            reader="pipeline.datasets.readers:read_digits",
            source="scikit-learn digits, images by sha256",
            size=1_797,
            download=None,
            val_fraction=0.125,
            test_fraction=0.2,
        ),
    )
}


def find_dataset(name: str, index: Path | None = None) -> Dataset:
    """Return the row of a data set, or of `folder:PATH`; raise BadInput that lists what there is otherwise.

    index is a folder for what is known of the files of one's own folders.
    """
    if name.startswith(FOLDER):
        from pipeline.datasets.folders import folder_dataset

        return folder_dataset(name, index)
    if name not in DATASETS:
        raise unknown_name("dataset", name, [*DATASETS, f"{FOLDER}PATH"])
    return DATASETS[name]


def stored_dataset(fingerprint: dict[str, Any], facts: dict[str, Any] | None = None) -> Dataset:
    """Return the row that a prepared data set was made by; facts are those of its manifest.

    Raises DamagedFile where they are not those of a prepared data set, and BadInput for a data set that is
    not known here.
    """
    name, source, files = (fingerprint.get(field) for field in ("name", "source", "files"))
    if isinstance(name, str) and not name.startswith(FOLDER):
        return find_dataset(name)
    if not (isinstance(name, str) and isinstance(source, str) and isinstance(files, int)):
        raise DamagedFile(f"expected the fingerprint of a prepared data set, found {str(fingerprint)[:200]}")
    from pipeline.datasets.folders import folder_row

    left_out = (facts or {}).get("unreadable", 0)
    note = f"{left_out} {'file' if left_out == 1 else 'files'} left out" if left_out else ""
    return folder_row(name.removeprefix(FOLDER), source, files, note)


def dataset_fingerprint(
    name: str, *, subset: int, split_seed: int, index: Path | None = None
) -> dict[str, Any]:
    """Return what a prepared data set depends on; subset 0 means all images. Raises BadInput."""
    row = find_dataset(name, index)
    least = min(100, row.size)
    if subset and not least <= subset <= row.size:
        raise BadInput(
            f"subset of {name}: expected 0 (all images) or {least} to {row.size} images, received {subset}"
        )
    own = {"files": row.size, "fitting": row.fitting} if row.fitting else {}
    return {
        "name": row.name,
        "source": row.source,
        "image_size": IMAGE_SIZE,
        "subset": 0 if subset == row.size else subset,
        "split": {
            "seed": split_seed,
            "val_fraction": row.val_fraction,
            "test_fraction": row.test_fraction,
            "order": row.order,
        },
        **own,
    }
