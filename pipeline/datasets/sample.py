"""The sample of CIFAR-10 that comes with the package: 2,000 of its images, which need no download.

Each split is a sheet of tiles, row by row, in a lossless WebP file; a table has the label, the file name and
the position in CIFAR-10 of each image. tests/datasets/write_sample.py writes these files from the archive.
"""

import csv
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.images import ImageWriter
from pipeline.datasets.table import SPLITS, Records
from pipeline.errors import DamagedFile
from pipeline.progress import Progress

FOLDER = Path(__file__).parent / "cifar10_sample"
TABLE = "images.csv"
COUNTS = {"train": 1_200, "val": 200, "test": 600}
SIDE = 32  # pixels of a tile
COLUMNS = 40  # tiles in a row of a sheet
# of all pixels, then all labels as int64
SHA256 = "4deb9c0e8823f422984492051cb3a969394c30f495411869aff469f94867ef6a"


def read_cifar10_sample(_: None, writer: ImageWriter, progress: Progress) -> Records:
    """Read the sample: 1,200 train, 200 val and 600 test images, each with 10 classes of equal size.

    Train and val images are from CIFAR-10's training set, test images from its test set. Raises DamagedFile
    if the pixels or labels are not as expected.
    """
    progress("read the sample of CIFAR-10", 0, 1, "files")
    with (FOLDER / TABLE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = np.concatenate([read_sheet(FOLDER / f"{split}.webp", count) for split, count in COUNTS.items()])
    labels = np.array([int(row["label"]) for row in rows], np.int64)
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    if digest != SHA256:
        raise DamagedFile(f"{FOLDER}: expected pixels and labels with sha256 {SHA256}, found {digest}")
    classes = {int(row["label"]): row["class"] for row in rows}
    writer.add(images)
    return Records(
        labels,
        [row["name"] for row in rows],
        tuple(classes[label] for label in sorted(classes)),
        None,
        source_split=np.array([SPLITS[row["split"]] for row in rows], np.uint8),
    )


def read_sheet(path: Path, count: int) -> np.ndarray:
    """Return the first count tiles of a sheet as (count, 32, 32, 3) uint8."""
    with Image.open(path, formats=["WEBP"]) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    tiles = pixels.reshape(-1, SIDE, COLUMNS, SIDE, 3).swapaxes(1, 2)
    return tiles.reshape(-1, SIDE, SIDE, 3)[:count]
