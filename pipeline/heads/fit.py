"""What all heads share: the data of a layer set, the choice of a sweep, a fit with probabilities."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from pipeline.datasets.table import ALL_LABELS, FINAL
from pipeline.errors import DamagedFile
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import fit_temperature
from pipeline.heads.data import HeadData
from pipeline.heads.model import with_probabilities
from pipeline.recipes.heads import Head, NetworkHead, Uncalibrated
from pipeline.storage.publishing import read_manifest
from pipeline.training.examples import Examples

CHOICE = "choice.json"  # what a sweep chose, in its folder
CHUNK = 500  # rows that a model answers at a time


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads layer sets of a feature store as the data of heads."""

    features: FeatureStore
    views: tuple[str, ...]
    classes: int
    fit_on: str = "train"
    budget: str = ALL_LABELS
    floor: float = 0.0

    @classmethod
    def of(cls, recipe: Head, features: FeatureStore, classes: int) -> Reader:
        """Return the reader of what a recipe learns from."""
        floor = recipe.variance_floor if isinstance(recipe, NetworkHead) else 0.0
        return cls(features, recipe.views, classes, recipe.fit_on, recipe.label_budget, floor)

    def __call__(self, layers: tuple[str, ...]) -> HeadData:
        """Return the data of the layers joined; no val rows are left where val is fitted on, too."""
        return HeadData(self.examples(layers), floor=self.floor)

    def examples(self, layers: tuple[str, ...]) -> Examples:
        """Return the examples of those data."""
        inputs = np.concatenate([self.features.load(layers, view) for view in self.views])
        found = Examples.of(self.features, inputs, self.classes, len(self.views), budget=self.budget)
        return found.with_val() if self.fit_on == FINAL else found

    def width(self, layer: str) -> int:
        """Return how many features a layer has."""
        return self.features.width(layer, self.views[0])


def read_choice(sweep: Path) -> dict[str, Any]:
    """Return what a finished sweep chose: settings, temperature, val_accuracy, seconds, heads."""
    path = read_manifest(sweep).verified(CHOICE)
    choice = json.loads(path.read_text(encoding="utf-8"))
    if missing := {"settings", "temperature", "seconds"} - set(choice):
        raise DamagedFile(
            f"{path}: expected {', '.join(sorted(missing))}, found none; delete it and run again"
        )
    return choice


def fit_head(recipe: Head, data: HeadData, **options: Any) -> keras.Model:
    """Return the fitted head with probabilities: features (B, D) in, (B, C) out."""
    model = resolve(f"{recipe.module}:fit")(recipe, data, **options)
    temperature = None
    if not recipe.calibrated:
        known = cast(Uncalibrated, recipe).temperature
        temperature = known or fit_temperature(_answers_on_val(model, data), data.val_labels)
    return with_probabilities(model, temperature)


def _answers_on_val(model: keras.Model, data: HeadData) -> np.ndarray:
    """Return the answers (V, n, C) of a model on the val rows of all views."""
    rows = data.raw(data.examples.val)
    parts = [model(rows[at : at + CHUNK], training=False).numpy() for at in range(0, len(rows), CHUNK)]
    return data.by_view(np.concatenate(parts))
