"""Shared by all heads: load their data, read a sweep's choice, fit a head that outputs probabilities."""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import fit_temperature, with_probabilities
from pipeline.heads.data import HeadData, blocks
from pipeline.recipes.heads import Head, NetworkHead, UncalibratedHead
from pipeline.storage.publishing import explain_disk_errors, read_manifest
from pipeline.training.examples import Examples

SWEEP_CHOICE = "choice.json"  # the best settings of a sweep, in its folder
PREDICT_ROWS = 500  # rows per forward pass
MEMORY_BYTES = 1 << 30  # joined features above this are mapped from a file; of others, heads make two copies


@dataclass(frozen=True, eq=False)
class HeadDataLoader:
    """Loads layers of a feature store with a recipe's views, training images and variance floor.

    images is the data set that the features are of.
    """

    recipe: Head
    features: FeatureStore
    images: ImageStore

    @property
    def floor(self) -> float:
        """The variance floor, 0 for heads without one."""
        return self.recipe.variance_floor if isinstance(self.recipe, NetworkHead) else 0.0

    def __call__(self, layers: tuple[str, ...]) -> HeadData:
        """Return the data of the concatenated layers; no val rows remain if heads are also fitted on val."""
        return HeadData(self.examples(layers), floor=self.floor)

    def examples(self, layers: tuple[str, ...]) -> Examples:
        """Return the examples of the concatenated layers."""
        views = self.recipe.views
        shape = len(views) * len(self.images.labels), sum(map(self.width, layers))
        if 4 * math.prod(shape) > MEMORY_BYTES:
            inputs = self._mapped(layers, shape)
        else:
            inputs = np.concatenate([self.features.load(layers, view) for view in views])
        return Examples.of(self.images, inputs, self.recipe, len(views))

    def _mapped(self, layers: tuple[str, ...], shape: tuple[int, int]) -> np.ndarray:
        """Return the features (V * N, D) in an unnamed file, which is freed with the last reference.

        It is in the cache's folder, because the folder for temporary files can be a part of memory.
        """
        folder = self.features.folder
        with explain_disk_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
            for view in self.recipe.views:
                for block in self.features.blocks(layers, view):
                    file.write(np.ascontiguousarray(block, np.float32).data)
            if file.tell() != 4 * math.prod(shape):
                raise DamagedFile(f"{folder}: expected features of shape {shape}; extract them again")
            return np.memmap(file, np.float32, "r", shape=shape)

    def width(self, layer: str) -> int:
        """Return a layer's number of features."""
        return self.features.width(layer, self.recipe.views[0])


def read_choice(sweep: Path) -> dict[str, Any]:
    """Return the choice of a finished sweep: settings, temperature, val_accuracy, seconds, heads."""
    path = read_manifest(sweep).verified(SWEEP_CHOICE)
    choice = json.loads(path.read_text(encoding="utf-8"))
    if missing := {"settings", "temperature", "seconds"} - set(choice):
        raise DamagedFile(f"{path}: missing {', '.join(sorted(missing))}; delete it and run again")
    return choice


def fit_head(recipe: Head, data: HeadData, **options: Any) -> keras.Model:
    """Return the fitted head, which maps features (B, D) to probabilities (B, C)."""
    model = resolve(f"{recipe.module}:fit")(recipe, data, **options)
    temperature = None
    if isinstance(recipe, UncalibratedHead):
        temperature = recipe.temperature or fit_temperature(_val_logits(model, data), data.val_labels)
    return with_probabilities(model, temperature)


def _val_logits(model: keras.Model, data: HeadData) -> np.ndarray:
    """Return a model's logits (V, n, C) on the val rows of all views."""
    rows = data.raw(data.examples.val)
    parts = [model(part, training=False).numpy() for _, part in blocks(rows, PREDICT_ROWS)]
    return data.by_view(np.concatenate(parts))
