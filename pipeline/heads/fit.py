"""What all heads share: the data of a layer set, the choice of a sweep, a fit with probabilities."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from pipeline.datasets.budget import ALL_LABELS
from pipeline.datasets.table import FINAL
from pipeline.errors import DamagedFile
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import fit_temperature
from pipeline.heads.data import HeadData, read_views
from pipeline.heads.model import with_probabilities
from pipeline.names import resolve
from pipeline.recipes.heads import Head, NetworkHead, Uncalibrated
from pipeline.storage.publishing import read_manifest
from pipeline.training.examples import Examples

CHOICE = "choice.json"  # what a sweep chose, in its folder


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads layer sets of a feature store as the data of heads; the last one is kept."""

    features: FeatureStore
    views: tuple[str, ...]
    classes: int
    fit_on: str = "train"
    given: str = ALL_LABELS
    floor: float = 0.0

    @classmethod
    def of(cls, recipe: Head, features: FeatureStore, classes: int) -> Reader:
        """Return the reader of what a recipe learns from."""
        floor = recipe.variance_floor if isinstance(recipe, NetworkHead) else 0.0
        return cls(features, recipe.views, classes, recipe.fit_on, recipe.labels, floor)

    @functools.lru_cache(maxsize=1)  # noqa: B019 -- a process has one reader, and one data set fits memory
    def __call__(self, layers: tuple[str, ...]) -> HeadData:
        """Return the data of the layers joined; no val rows are left where val is fitted on, too."""
        inputs = read_views(self.features, layers, self.views)
        examples = Examples.of(self.features, inputs, self.classes, len(self.views), given=self.given)
        if self.fit_on == FINAL:
            examples = examples.with_val()
        return HeadData(examples, floor=self.floor)

    def width(self, layer: str) -> int:
        """Return how many features a layer has."""
        return self.features.width(layer, self.views[0])


def read_choice(sweep: Path) -> dict[str, Any]:
    """Return what a finished sweep chose: settings, temperature, val_accuracy, seconds, heads."""
    path = read_manifest(sweep).verified(CHOICE)
    choice = json.loads(path.read_text(encoding="utf-8"))
    missing = {"settings", "temperature", "seconds"} - set(choice)
    if missing:
        raise DamagedFile(
            f"{path}: expected {', '.join(sorted(missing))}, found none; delete it and run again"
        )
    return choice


def fit_head(recipe: Head, data: HeadData, **options: Any) -> keras.Model:
    """Return the fitted head with probabilities: features (B, D) in, (B, C) out."""
    model = resolve(f"{recipe.module}:fit")(recipe, data, **options)
    if recipe.calibrated:
        return with_probabilities(model, None)
    temperature = cast(Uncalibrated, recipe).temperature or fit_temperature(
        _answers_on_val(model, data), data.val_labels
    )
    return with_probabilities(model, temperature)


def _answers_on_val(model: keras.Model, data: HeadData) -> np.ndarray:
    """Return the answers (V, n, C) of a model on the val rows of all views."""
    examples, chunk = data.examples, 500
    starts = range(0, len(examples.inputs), len(examples.labels))
    rows = np.concatenate([start + examples.val for start in starts])
    parts = [
        model(examples.inputs[rows[at : at + chunk]], training=False).numpy()
        for at in range(0, len(rows), chunk)
    ]
    return data.by_view(np.concatenate(parts))
