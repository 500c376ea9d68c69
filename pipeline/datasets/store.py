"""A prepared data set on disk: written once by `prepare`, read by everything else as an `ImageStore`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import hdf5
from pipeline.datasets.split import SPLITS, split_images, subset_images
from pipeline.datasets.table import DATASETS
from pipeline.errors import DamagedFile
from pipeline.progress import Progress, silent
from pipeline.publishing import publish_manifest, published, read_manifest

if TYPE_CHECKING:
    import numpy as np

FILE = "dataset.h5"


def prepare(fingerprint: dict, source: str | None, folder: str, progress: Progress = silent) -> dict:
    """Write the data set that fingerprint describes to folder; return the counts of its splits.

    source is the path of the downloaded file, None where the data come with a package. Raises
    DamagedFile when the source is not what its checksums say.
    """
    import numpy as np

    row, wanted = DATASETS[fingerprint["name"]], fingerprint["split"]
    module, _, function = row.reader.partition(":")
    raw = getattr(importlib.import_module(module), function)(source and Path(source), progress)
    split = split_images(
        raw.labels,
        raw.is_test,
        val_fraction=wanted["val_fraction"],
        test_fraction=wanted["test_fraction"],
        seed=wanted["seed"],
    )
    rows = np.arange(len(raw.labels))
    if fingerprint["subset"]:
        rows = subset_images(raw.labels, split, count=fingerprint["subset"], seed=wanted["seed"])
    progress("write images", 0, len(rows), "images")
    with published(Path(folder) / FILE) as scratch, hdf5.created(scratch) as file:
        hdf5.write_array(file, "images", raw.images[rows])
        hdf5.write_array(file, "labels", raw.labels[rows])
        hdf5.write_array(file, "index", rows.astype(np.int64))
        hdf5.write_array(file, "split", split[rows])
        hdf5.write_texts(file, "names", [raw.names[row] for row in rows])
    counts = {name: int((split[rows] == code).sum()) for name, code in SPLITS.items()}
    facts = {"class_names": list(raw.class_names), "counts": counts}
    publish_manifest(Path(folder), fingerprint, [FILE], facts)
    return counts


class ImageStore:
    """A prepared data set, checked against its manifest when opened; images are read when asked for.

    labels (N,) int64, index (N,) int64 (position in the source), split (N,) uint8, names N texts,
    class_names C texts, counts of each split, row the data set's row in DATASETS.
    """

    def __init__(self, folder: Path | str):
        manifest = read_manifest(Path(folder))
        self.path = manifest.verified(FILE)
        self.fingerprint = manifest.fingerprint
        self.row = DATASETS[manifest.fingerprint["name"]]
        self.class_names: list[str] = manifest.facts["class_names"]
        self.counts: dict[str, int] = manifest.facts["counts"]
        with hdf5.opened(self.path) as file:
            self.labels: np.ndarray = file["labels"][:]
            self.index: np.ndarray = file["index"][:]
            self.split: np.ndarray = file["split"][:]
            self.names: list[str] = hdf5.read_texts(file, "names")
            shape = file["images"].shape
        if not len(self.labels) == len(self.index) == len(self.split) == len(self.names) == shape[0]:
            raise DamagedFile(f"{self.path}: its datasets differ in length")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of "train", "val" or "test" in this store, ascending."""
        import numpy as np

        return np.flatnonzero(self.split == SPLITS[split])

    def images(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images start … stop-1 as (n, 32, 32, 3) uint8; one contiguous read."""
        with hdf5.opened(self.path) as file:
            return file["images"][start:stop]
