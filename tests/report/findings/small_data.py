"""A small data set in which tests plant faults, with features and a run's predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.datasets.images import ImageWriter
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import DATASET_FILE, IMAGES_FILE, ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.runs.result import EVALUATED, Predictions, RunResult
from pipeline.storage import hdf5
from pipeline.storage.publishing import publish_manifest

CLASSES = ("cat", "dog", "ship")
TRAIN, VAL, TEST = 60, 12, 18


class Features:
    """A small FeatureStore: mirroring an image changes its features little; the last feature is always 0."""

    base = {"weights": "he_normal:0"}

    def __init__(self, images: ImageStore):
        self.folder, self.index = images.path.parent, images.index
        self._images = images

    def load(self, layers: tuple[str, ...], view: str) -> np.ndarray:
        """Return (N, 385) float32."""
        pixels = self._images.images
        blocks = pixels.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4))
        features = np.concatenate([blocks + blocks[:, :, ::-1], 0.1 * blocks], axis=1)
        return np.pad(features.reshape(len(pixels), -1), ((0, 0), (0, 1))).astype(np.float32)


def photographs(count: int, seed: int = 0) -> np.ndarray:
    """Return unrelated random images, (count, 32, 32, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, size=(count, 16, 16, 3))
    return coarse.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)


def write_images(folder: Path, images: np.ndarray, split: np.ndarray) -> ImageStore:
    """Write and open a data set with alternating classes; the index of an image is ten times its row."""
    rows, labels = np.arange(len(images)), np.arange(len(images)) % len(CLASSES)
    folder.mkdir()
    with hdf5.created(folder / DATASET_FILE) as file:
        hdf5.write_array(file, "labels", labels)
        hdf5.write_array(file, "index", 10 * rows)
        hdf5.write_array(file, "split", split)
        hdf5.write_texts(file, "names", [f"a_rather_long_name_of_a_photograph_{row:04d}.png" for row in rows])
    with ImageWriter(folder / IMAGES_FILE, 32) as writer:
        writer.add(images)
    counts = {name: int((split == code).sum()) for name, code in SPLITS.items()}
    facts = {"class_names": list(CLASSES), "counts": counts}
    fingerprint = dataset_fingerprint("digits", subset=0, split_seed=0)
    publish_manifest(folder, fingerprint, [DATASET_FILE, IMAGES_FILE], facts)
    return ImageStore(folder)


def run_on(images: ImageStore, probabilities: np.ndarray) -> RunResult:
    """Return a run with these probabilities (n, C) of the val and test images, in their order."""
    others = np.flatnonzero(images.split != SPLITS["train"])
    names, predictions = np.array(images.names, dtype=object), {}
    for split, code in EVALUATED.items():
        selected = images.split[others] == code
        rows, values = others[selected], probabilities[selected].astype(np.float32)
        predictions[split] = Predictions(
            images.index[rows], names[rows], images.labels[rows], values, CLASSES
        )
    recipe = {"scheme": "head:linear", "weights": "random", "dataset_title": "synthetic", "seed": 0}
    recipe |= {f"n_{name}": count for name, count in images.counts.items()} | {"precision": "float32"}
    return RunResult(images.path.parent, recipe, pd.DataFrame(), {}, predictions)
