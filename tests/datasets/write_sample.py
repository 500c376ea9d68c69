"""Write the sample of CIFAR-10 that comes with the package again, from CIFAR-10's archive:

python tests/datasets/write_sample.py ARCHIVE
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.sample import COLUMNS, COUNTS, FOLDER, SIDE, TABLE
from pipeline.datasets.split import split_images, stratified_sample
from pipeline.datasets.table import SPLITS
from pipeline.download.archive import read_archive
from pipeline.download.cifar import ARCHIVES

FIELDS = ("split", "position", "label", "class", "name")


def write_sample(archive: Path, folder: Path) -> None:
    """Write the sample from CIFAR-10's archive; val images are from the val split of seed 0."""
    data = read_archive(ARCHIVES["cifar10"], archive)
    is_test = np.arange(len(data.labels)) >= data.train_count
    split = split_images(data.labels, is_test, val_fraction=0.1, test_fraction=0.0, seed=0)
    table = []
    folder.mkdir(exist_ok=True)
    for name, count in COUNTS.items():
        members = np.flatnonzero(split == SPLITS[name])
        labels = data.labels[members]
        drawn = members[stratified_sample(labels, count, seed=0, purpose="sample", positions=members)]
        tiles = data.images[drawn].reshape(-1, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
        sheet = Image.fromarray(tiles.reshape(-1, COLUMNS * SIDE, 3))
        sheet.save(folder / f"{name}.webp", lossless=True, quality=100, method=6)
        for row in drawn:
            label = data.labels[row]
            table.append((name, row, label, data.class_names[label], data.names[row]))
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([FIELDS, *table])


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]), FOLDER)
