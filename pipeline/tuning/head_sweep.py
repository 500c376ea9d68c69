"""A sweep from cached features to its folder: the table of all settings, its picture, and the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import machine, numerics
from pipeline.datasets.split import given_rows
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.heads.fit import CHOICE, Reader
from pipeline.heads.sweep import Trial, sweep
from pipeline.progress import Progress, silent
from pipeline.recipes.settings import override, plain
from pipeline.recipes.sweep import SEED, SweepSpec, points_of
from pipeline.report.drawing import publish_figure
from pipeline.report.sweeps import draw_sweep
from pipeline.results.scores import wilson_interval
from pipeline.storage.publishing import publish_csv, publish_json, publish_manifest
from pipeline.training.history import Clock

TABLE, PICTURE = "sweep.csv", "sweep.png"


def tune_head(
    spec: dict[str, Any], dataset: str, features: str, folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Run the sweep of a SweepSpec as JSON, publish it in folder, and return its choice.

    Heads are trained on the training images and ranked on val; no test image is looked at.
    """
    clock, target = Clock(), Path(folder)
    state = numerics.start(seed=0, precision="float32")
    told = SweepSpec(**spec)
    recipe, space = told.head(), told.axes()
    images, store = ImageStore(dataset), FeatureStore(features)
    read = Reader.of(override(recipe, {"fit_on": "train"}), store, len(images.class_names))
    trials = sweep(recipe, space, read, precision=told.precision, progress=progress)
    axes = [name for name in space if name != SEED]
    table = trial_table(trials, axes, images.counts["val"])
    publish_csv(target / TABLE, table)
    given = len(given_rows(store.labels, store.rows("train"), recipe.label_budget, store.index))
    caption = (
        f"{images.row.title}, {given:,} train / {images.counts['val']:,} val · weights "
        f"{told.weights} · {len(points_of(space))} heads in {clock.total():.1f} s, chosen on val"
    )
    publish_figure(target / PICTURE, draw_sweep, table, axes, recipe.title, caption)
    best = trials[0]
    choice = {
        "recipe": recipe.name,
        "settings": plain(best.settings),
        "temperature": best.temperature,
        "val_accuracy": best.val_accuracy,
        "val_loss": best.val_loss,
        "heads": len(points_of(space)),
        "seconds": clock.total(),
        "precision": told.precision,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "versions": machine.versions(),
        "machine": {**machine.describe(), **state},
    }
    publish_json(target / CHOICE, choice)
    publish_manifest(target, told.fingerprint, [TABLE, PICTURE, CHOICE])
    return choice


def trial_table(trials: list[Trial], axes: list[str], n_val: int) -> pd.DataFrame:
    """Return a row a trial, best first: rank, the axes, and what it reached on n_val images.

    low and high bound val_accuracy with 95 % confidence (Wilson); spread is over seeds, seconds its share.
    """
    rows = []
    for rank, trial in enumerate(trials, start=1):
        low, high = wilson_interval(round(trial.val_accuracy * n_val), n_val)
        rows.append(
            {
                "rank": rank,
                **{name: _text(trial.settings[name]) for name in axes},
                "seeds": trial.seeds,
                "val_accuracy": trial.val_accuracy,
                "val_accuracy_low": low,
                "val_accuracy_high": high,
                "val_accuracy_spread": trial.spread,
                "val_loss": trial.val_loss,
                "temperature": trial.temperature,
                "seconds": round(trial.seconds, 4),
            }
        )
    return pd.DataFrame(rows)


def _text(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
