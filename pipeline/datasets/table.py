"""The data sets, one row each; a row says where the images come from and what they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import BadInput

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

TRAIN, VAL, TEST = 0, 1, 2
SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
FIT_ON = ("train", "train+val")  # what a final fit may learn from, once all choices are made on val
FINAL = FIT_ON[1]


ALL_LABELS = "100%"


@dataclass(frozen=True)
class Budget:
    """Labels that are given: share of all (0 … 1), or per_class of each class, and the number of the draw."""

    share: float | None
    per_class: int | None
    draw: int

    def count(self, total: int, classes: int) -> int:
        """Return how many of total labels in so many classes these are, at least one a class."""
        if self.per_class is not None:
            return min(total, self.per_class * classes)
        assert self.share is not None
        return max(min(total, classes), round(self.share * total))


def parse_budget(text: str) -> Budget:
    """Return the budget that text names: `5%` or `25/class`, with `#2` behind it for draw 2 (counted from 0).

    Raises BadInput.
    """
    match = re.fullmatch(r"(?:(\d{1,3}(?:\.\d{1,4})?)%|(\d{1,7})/class)(?:#(\d{1,9}))?", text.strip())
    if not match or (match[2] and not int(match[2])) or (match[1] and not 0 < float(match[1]) <= 100):
        raise BadInput(
            f"labels {text!r}: expected a share such as 5% (up to 100%) or a number of each class such as "
            "25/class, with #1 behind it for another draw"
        )
    share = float(match[1]) / 100 if match[1] else None
    return Budget(share, int(match[2]) if match[2] else None, int(match[3] or 0))
