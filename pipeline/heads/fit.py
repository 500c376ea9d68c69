"""Shared by all heads: load their data, read a sweep's choice, fit a head that outputs probabilities."""

import json
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
from pipeline.heads.data import HeadData
from pipeline.recipes.heads import Head, NetworkHead, UncalibratedHead
from pipeline.storage.publishing import read_manifest
from pipeline.training.examples import Examples

SWEEP_CHOICE = "choice.json"  # the best settings of a sweep, in its folder
PREDICT_ROWS = 500  # rows per forward pass


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
        inputs = np.concatenate([self.features.load(layers, view) for view in views])
        return Examples.of(self.images, inputs, self.recipe, len(views))

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
    starts = range(0, len(rows), PREDICT_ROWS)
    parts = [model(rows[start : start + PREDICT_ROWS], training=False).numpy() for start in starts]
    return data.by_view(np.concatenate(parts))
