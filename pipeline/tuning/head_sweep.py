"""Run a sweep on cached features and publish its folder: a table of all settings, a plot and the choice."""

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import machine, numerics
from pipeline.datasets.split import budget_rows
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.formatting import describe_sizes
from pipeline.heads.fit import SWEEP_CHOICE, HeadDataLoader
from pipeline.heads.sweep import SweepTrial, sweep
from pipeline.progress import Progress, silent
from pipeline.recipes.settings import override, plain
from pipeline.recipes.sweep import SEED, SweepSpec, points_of
from pipeline.report.drawing import publish_figure
from pipeline.report.sweeps import draw_sweep
from pipeline.results.scores import with_interval
from pipeline.storage.publishing import publish_csv, publish_json, publish_manifest
from pipeline.training.history import Clock

SWEEP_TABLE, SWEEP_PLOT = "sweep.csv", "sweep.png"


def tune_head(
    spec: dict[str, Any], dataset: str, features: str, folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Run the sweep of a SweepSpec, given as JSON; publish it in folder and return its choice.

    Heads are trained on train and ranked on val; test is not used.
    """
    clock, target = Clock(), Path(folder)
    state = numerics.configure(seed=0, precision="float32")
    sweep_spec = SweepSpec(**spec)
    recipe, space = sweep_spec.head(), sweep_spec.axes()
    images, store = ImageStore(dataset), FeatureStore(features)
    loader = HeadDataLoader(override(recipe, {"fit_on": "train"}), store, images)
    trials = sweep(recipe, space, loader, precision=sweep_spec.precision, progress=progress)
    axes = [name for name in space if name != SEED]
    table = sweep_table(trials, axes, images.counts["val"])
    publish_csv(target / SWEEP_TABLE, table)
    n_train = len(budget_rows(store.labels, store.rows("train"), recipe.label_budget, store.index))
    sizes = describe_sizes({"image_size": images.image_size, "input_size": store.base["input_size"]})
    caption = (
        f"{images.row.title}, {n_train:,} train / {images.counts['val']:,} val · "
        f"weights {sweep_spec.weights} · {sizes} · "
        f"{len(points_of(space))} heads in {clock.total():.1f} s, chosen on val"
    )
    publish_figure(target / SWEEP_PLOT, draw_sweep, table, axes, f"Sweep of {recipe.title}", caption)
    best = trials[0]
    choice = {
        "recipe": recipe.name,
        "settings": plain(best.settings),
        "temperature": best.temperature,
        "val_accuracy": best.val_accuracy,
        "val_loss": best.val_loss,
        "heads": len(points_of(space)),
        "seconds": clock.total(),
        "precision": sweep_spec.precision,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "versions": machine.versions(),
        "machine": {**machine.describe(), **state},
    }
    publish_json(target / SWEEP_CHOICE, choice)
    publish_manifest(target, sweep_spec.fingerprint, [SWEEP_TABLE, SWEEP_PLOT, SWEEP_CHOICE])
    return choice


def sweep_table(trials: list[SweepTrial], axes: list[str], n_val: int) -> pd.DataFrame:
    """Return a row per trial, best first: its rank, its settings on the axes, its scores on n_val images.

    val_accuracy_low and _high are its 95 % Wilson interval; spread is over seeds, seconds the trial's share.
    """
    rows = [
        {
            "rank": rank,
            **{n: ",".join(map(str, v)) if isinstance(v := trial.settings[n], tuple) else v for n in axes},
            "seeds": trial.seeds,
            **with_interval("val_accuracy", trial.val_accuracy, n_val),
            "val_accuracy_spread": trial.spread,
            "val_loss": trial.val_loss,
            "temperature": trial.temperature,
            "seconds": round(trial.seconds, 4),
        }
        for rank, trial in enumerate(trials, start=1)
    ]
    return pd.DataFrame(rows)
