"""A head's accuracy at several label budgets, from cached features."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import numerics
from pipeline.datasets.split import budget_rows
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import ALL_LABELS
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.heads.data import HeadData, Points
from pipeline.heads.fit import HeadDataLoader
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import Head
from pipeline.recipes.settings import override
from pipeline.recipes.sweep import SweepSpec, points_of
from pipeline.storage.layout import COSTS, CURVE
from pipeline.storage.publishing import publish_csv, publish_json, publish_manifest
from pipeline.training.history import Clock


def head_curve(
    spec: dict[str, Any], dataset: str, features: str, folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Fit a head for each label budget (such as 5%#2) of a SweepSpec as JSON; publish accuracies in folder.

    For each budget, settings are chosen on val, and the chosen head, trained only on the budget's labels, is
    evaluated once on test. Features are standardized by all training images, which needs no labels.
    Returns costs.
    """
    clock, target = Clock(), Path(folder)
    state = numerics.configure(seed=0, precision="float32")
    sweep_spec = SweepSpec(**spec)
    recipe, points = sweep_spec.head(), points_of(sweep_spec.axes())
    images, store = ImageStore(dataset), FeatureStore(features)
    with clock.stage("read features"):
        all_labels = override(recipe, {"label_budget": ALL_LABELS, "fit_on": "train"})
        loader = HeadDataLoader(all_labels, store, images)
        val_and_test = np.concatenate([store.rows("val"), store.rows("test")])
        full_data = HeadData(replace(loader.examples(recipe.layers), val=val_and_test), floor=loader.floor)
    rows = []
    with clock.stage("heads"):
        for number, budget in enumerate(sweep_spec.labels):
            train = budget_rows(store.labels, store.rows("train"), budget, store.index)
            data = HeadData(replace(full_data.examples, train=train), standardize_by=full_data.moments)
            scores = _evaluate(recipe, points, data, images.counts["val"])
            rows.append({"labels": budget, "n_train": len(train), **scores})
            progress("label budgets", number + 1, len(sweep_spec.labels), "fits")
    costs = {"seconds": clock.total(), "stages": clock.stages, **state}
    publish_csv(target / CURVE, pd.DataFrame(rows))
    publish_json(target / COSTS, costs)
    publish_manifest(target, sweep_spec.fingerprint, [CURVE, COSTS])
    return costs


def _evaluate(recipe: Head, points: Points, data: HeadData, n_val: int) -> dict[str, Any]:
    """Return the settings chosen on val and their accuracies on val and test."""
    logits = resolve(f"{recipe.module}:predict_logits")(recipe, points, data)
    correct = [head_logits.mean(axis=0).argmax(axis=1) == data.val_labels for head_logits in logits]
    best = max(range(len(points)), key=lambda number: correct[number][:n_val].sum())
    return {
        "val_accuracy": float(correct[best][:n_val].mean()),
        "accuracy": float(correct[best][n_val:].mean()),
        "n_test": len(correct[best]) - n_val,
        "chosen": " ".join(f"{name}={value:g}" for name, value in points[best].items()),
    }
