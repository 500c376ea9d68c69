"""The table of data sets: one row each, with its reader, source, size and split fractions."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import BadInput, Table

if TYPE_CHECKING:
    import numpy as np

FOLDER = "folder:"  # prefix of a data set that is a folder of the user's pictures
TABLES = ("csv:", "parquet:", "npz:")  # prefixes of data sets that are tables of pictures and labels
PICTURES = (FOLDER, *TABLES)
SMALLEST_IMAGE, LARGEST_IMAGE = 32, 512  # pixels per side of prepared images; VGG16's minimum is 32


class Records(NamedTuple):
    """What a reader returns about the N images that it wrote, in source order."""

    labels: np.ndarray  # (N,) int64, 0 … C-1
    names: list[str]  # N file names, as in the source
    class_names: tuple[str, ...]  # C
    is_test: np.ndarray | None  # (N,) bool, the source's own test images; None if it has no test split
    content: np.ndarray | None = None  # (N, 32) uint8, sha256 of each picture, if it comes from a file
    split_keys: np.ndarray | None = None  # (N, 32) uint8, what decides the split: content or a group
    source_split: np.ndarray | None = None  # (N,) uint8, the split set by the source, 255 if unassigned
    weights: np.ndarray | None = None  # (N,) float32, of each image in the loss; None if all are 1
    unreadable: tuple[tuple[str, str], ...] = ()  # name of each file left out, and why
    identity: str | None = None  # of the bytes that were read; compared with the row's source


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Its reader, `module:function`, is called with the downloaded file or None, an images.ImageWriter that it
    adds the images to, and a callback for progress; it returns Records.
    """

    name: str
    title: str
    reader: str
    source: str  # identity of the bytes that the reader accepts; part of every key
    size: int  # number of images, the largest subset
    val_fraction: float  # of the images that are not test
    test_fraction: float = 0.0  # of all images; used if the source has no test split
    download: str | None = None  # the Luigi task whose `file` is read; None if the data come with a package
    note: str = ""  # a caveat, repeated in every figure's caption
    order: str = "sha256"  # what decides the split: sha256 of seed and position, the pixels, or the source
    credit: str = ""  # who made it
    image_size: int = SMALLEST_IMAGE  # pixels per side of its images, or the default if fitting is set
    fitting: str = ""  # how pictures are cropped and resized; "" if all have image_size already


CIFAR_CREDIT = "Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
_cifar = functools.partial(Dataset, size=60_000, val_fraction=0.1, credit=CIFAR_CREDIT)

DATASETS = Table(
    "dataset",
    _cifar(
        name="cifar10",
        title="CIFAR-10",
        reader="pipeline.datasets.readers:read_cifar10",
        source="cifar-10-batches-py, seven members by sha256",
        download="DownloadCifar10",
    ),
    Dataset(
        name="cifar10-sample",
        title="CIFAR-10 (sample)",
        reader="pipeline.datasets.sample:read_cifar10_sample",
        source="2,000 images of CIFAR-10, pixels and labels by sha256",
        size=2_000,
        val_fraction=1 / 7,
        test_fraction=0.3,
        order="source",
        credit=CIFAR_CREDIT,
    ),
    _cifar(
        name="cifar100",
        title="CIFAR-100",
        reader="pipeline.datasets.readers:read_cifar100",
        source="cifar-100-python, three members by md5, fine labels",
        download="DownloadCifar100",
    ),
    Dataset(
        name="digits",
        title="digits",
        note="1,797 scanned digits; a demonstration, not CIFAR-10",
        reader="pipeline.datasets.readers:read_digits",
        source="scikit-learn digits, images by sha256",
        size=1_797,
        val_fraction=0.125,
        test_fraction=0.2,
    ),
)

TRAIN, VAL, TEST = 0, 1, 2
SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
SPLIT_NAMES = {code: name for name, code in SPLITS.items()}
FIT_ON = ("train", "train+val")  # the last is for a final fit, after all choices were made on val
FINAL = FIT_ON[1]
ALL_LABELS = "100%"


@dataclass(frozen=True)
class LabelBudget:
    """How many training labels are used: a share (0 … 1) or a number per class; draw seeds the sampling."""

    share: float | None
    per_class: int | None
    draw: int


def parse_budget(text: str) -> LabelBudget:
    """Parse a label budget: `5%` or `25/class`, with the suffix `#2` for draw 2 (draws count from 0).

    Raises BadInput.
    """
    match = re.fullmatch(r"(?:(\d{1,3}(?:\.\d{1,4})?)%|(\d{1,7})/class)(?:#(\d{1,9}))?", text.strip())
    if not match or (match[2] and not int(match[2])) or (match[1] and not 0 < float(match[1]) <= 100):
        raise BadInput(
            f"label budget {text!r}: expected a share such as 5% (up to 100%) or a number per class such as "
            "25/class; append #1, #2, … for other random draws"
        )
    share = float(match[1]) / 100 if match[1] else None
    return LabelBudget(share, int(match[2]) if match[2] else None, int(match[3] or 0))
