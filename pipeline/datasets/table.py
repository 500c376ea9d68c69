"""The data sets, one row each; a row says where the images come from and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import BadInput, unknown_name

if TYPE_CHECKING:
    import numpy as np

IMAGE_SIZE = 32  # pixels a side of every prepared image: CIFAR-10's own, and the least that VGG16 takes


class RawImages(NamedTuple):
    """What a reader returns: all images in their source's order."""

    images: np.ndarray  # (N, 32, 32, 3) uint8, RGB
    labels: np.ndarray  # (N,) int64, 0 … C-1
    names: list[str]  # N file names, as in the source
    class_names: tuple[str, ...]  # C
    is_test: np.ndarray | None  # (N,) bool, the source's own test part; None when it has none


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


def find_dataset(name: str) -> Dataset:
    """Return the row of a data set; raise BadInput that lists the rows otherwise."""
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return DATASETS[name]


def dataset_fingerprint(name: str, *, subset: int, split_seed: int) -> dict:
    """Return what a prepared data set depends on; subset 0 means all images. Raises BadInput."""
    row = find_dataset(name)
    if subset and not 100 <= subset <= row.size:
        raise BadInput(
            f"subset of {name}: expected 0 (all images) or 100 to {row.size} images, received {subset}"
        )
    return {
        "name": name,
        "source": row.source,
        "image_size": IMAGE_SIZE,
        "subset": 0 if subset == row.size else subset,
        "split": {
            "seed": split_seed,
            "val_fraction": row.val_fraction,
            "test_fraction": row.test_fraction,
            "order": "sha256",
        },
    }
