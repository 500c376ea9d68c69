"""Train a head on cached features, or the best head of a sweep; the backbone is not run."""

from __future__ import annotations

import functools
import importlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline.backbones.table import BACKBONES
from pipeline.datasets.labels import ALL_LABELS
from pipeline.datasets.split import FINAL
from pipeline.errors import DamagedFile
from pipeline.heads.data import HeadData, read_views
from pipeline.heads.recipes import Head, Uncalibrated
from pipeline.publishing import read_manifest
from pipeline.training.record import Job, Trained
from pipeline.training.settings import as_dict, override

if TYPE_CHECKING:
    import keras
    import numpy as np

    from pipeline.features.store import FeatureStore

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
        floor = getattr(recipe, "variance_floor", 0.0)
        return cls(features, recipe.views, classes, recipe.fit_on, recipe.labels, floor)

    @functools.lru_cache(maxsize=1)  # noqa: B019 -- a process has one reader, and one data set fits memory
    def __call__(self, layers: tuple[str, ...]) -> HeadData:
        """Return the data of the layers joined; no val rows are left where val is fitted on, too."""
        from pipeline.training.loop import Examples

        inputs = read_views(self.features, layers, self.views)
        examples = Examples.of(self.features, inputs, self.classes, len(self.views), given=self.given)
        if self.fit_on == FINAL:
            examples = examples.with_val()
        return HeadData(examples, floor=self.floor)

    def width(self, layer: str) -> int:
        """Return how many features a layer has."""
        return self.features.width(layer, self.views[0])


def train_head(job: Job[Head]) -> Trained:
    """Return a head of any kind on the layers that its recipe names, joined: (N, D) features in."""
    return _train(job)


def train_tuned_head(job: Job[Head]) -> Trained:
    """Return the head that a sweep chose on val, fitted anew on train and val together.

    The job's recipe is what was swept. Raises DamagedFile when the sweep is not what its manifest says.
    """
    assert job.sweep is not None
    choice = read_choice(job.sweep)
    wanted = {**choice["settings"], "fit_on": FINAL}
    if not job.recipe.calibrated:
        wanted["temperature"] = choice["temperature"]
    recipe = override(job.recipe, wanted)
    recipe.check()
    trained = _train(replace(job, recipe=recipe))
    return replace(trained, settings=as_dict(recipe), tune_seconds=choice["seconds"])


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


def _train(job: Job[Head]) -> Trained:
    from pipeline.training.loop import Classifier, History

    recipe = job.recipe
    assert job.features is not None
    with job.clock.stage("read features"):
        data = Reader.of(recipe, job.features, len(job.images.class_names))(recipe.layers)
    history, rows = History(), job.rows()
    with job.clock.stage("head"):
        model = fit_head(recipe, data, seed=job.seed, history=history, progress=job.progress)
    with job.clock.stage("predict"):
        probabilities = Classifier(model).predict(data.examples.inputs, rows, data.views)
    below = parameters_below(job.backbone, recipe.layers)
    return Trained(model, history, rows, probabilities, below, n_train=len(data.examples.train))


def fit_head(recipe: Head, data: HeadData, **options: Any) -> keras.Model:
    """Return the fitted head with probabilities: features (B, D) in, (B, C) out."""
    from pipeline.heads.calibration import fit_temperature
    from pipeline.heads.model import with_probabilities

    model = importlib.import_module(recipe.module).fit(recipe, data, **options)
    if recipe.calibrated:
        return with_probabilities(model, None)
    temperature = cast(Uncalibrated, recipe).temperature or fit_temperature(
        _answers_on_val(model, data), data.val_labels
    )
    return with_probabilities(model, temperature)


def _answers_on_val(model: keras.Model, data: HeadData) -> np.ndarray:
    """Return the answers (V, n, C) of a model on the val rows of all views."""
    import numpy as np

    examples, chunk = data.examples, 500
    starts = range(0, len(examples.inputs), len(examples.labels))
    rows = np.concatenate([start + examples.val for start in starts])
    parts = [
        model(examples.inputs[rows[at : at + chunk]], training=False).numpy()
        for at in range(0, len(rows), chunk)
    ]
    return data.by_view(np.concatenate(parts))


def parameters_below(backbone: str, layers: tuple[str, ...]) -> int:
    """Return how many parameters the backbone has up to the deepest of the layers."""
    row = BACKBONES[backbone]
    deepest = max(row.taps.index(layer) for layer in layers) + 1
    weights = row.shapes(through=deepest).values()
    return sum(math.prod(shape) for shapes in weights for shape in shapes.values())
