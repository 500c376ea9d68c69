"""A small data set in which tests plant faults, features that see them, and a run's answers on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import FILE, ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.runs.result import EVALUATED, Predictions, RunResult
from pipeline.storage import hdf5
from pipeline.storage.publishing import publish_manifest

CLASSES = ("cat", "dog", "ship")
TRAIN, VAL, TEST = 60, 12, 18


class Features:
    """Features of images as FeatureStore gives them: mirroring changes them little, the last is always 0."""

    base = {"weights": {"name": "random"}}

    def __init__(self, images: ImageStore):
        self.folder, self.index = images.path.parent, images.index
        self._images = images

    def load(self, layers: tuple[str, ...], view: str) -> np.ndarray:
        """Return (N, 385) float32."""
        pixels = self._images.images()
        blocks = pixels.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4))
        seen = np.concatenate([blocks + blocks[:, :, ::-1], 0.1 * blocks], axis=1).reshape(len(pixels), -1)
        return np.pad(seen, ((0, 0), (0, 1))).astype(np.float32)


def photographs(count: int, seed: int = 0) -> np.ndarray:
    """Return images without anything in common, (count, 32, 32, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, size=(count, 16, 16, 3))
    return coarse.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)


def write_images(folder: Path, images: np.ndarray, split: np.ndarray) -> ImageStore:
    """Write a data set of three classes in turn and open it; an index is ten times the row."""
    rows, labels = np.arange(len(images)), np.arange(len(images)) % len(CLASSES)
    folder.mkdir()
    with hdf5.created(folder / FILE) as file:
        hdf5.write_array(file, "images", images)
        hdf5.write_array(file, "labels", labels)
        hdf5.write_array(file, "index", 10 * rows)
        hdf5.write_array(file, "split", split)
        hdf5.write_texts(file, "names", [f"a_rather_long_name_of_a_photograph_{row:04d}.png" for row in rows])
    counts = {name: int((split == code).sum()) for name, code in SPLITS.items()}
    facts = {"class_names": list(CLASSES), "counts": counts}
    publish_manifest(folder, dataset_fingerprint("digits", subset=0, split_seed=0), [FILE], facts)
    return ImageStore(folder)


def run_on(images: ImageStore, probabilities: np.ndarray) -> RunResult:
    """Return a run that gave probabilities (n, C) to the val and test images, in their order."""
    others = np.flatnonzero(images.split != SPLITS["train"])
    names, found = np.array(images.names, dtype=object), {}
    for split, code in EVALUATED.items():
        kept = images.split[others] == code
        rows = others[kept]
        answers = probabilities[kept].astype(np.float32)
        found[split] = Predictions(images.index[rows], names[rows], images.labels[rows], answers, CLASSES)
    recipe = {"scheme": "head:linear", "weights": "random", "dataset_title": "synthetic", "seed": 0}
    recipe |= {f"n_{name}": count for name, count in images.counts.items()} | {"precision": "float32"}
    return RunResult(images.path.parent, recipe, pd.DataFrame(), {}, found)
