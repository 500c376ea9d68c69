"""How a head's accuracy grows with the labels that it is given, from cached features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import numerics
from pipeline.datasets.split import given_rows
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import ALL_LABELS
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.heads.data import HeadData, Points
from pipeline.heads.fit import Reader
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import Head
from pipeline.recipes.settings import override
from pipeline.recipes.sweep import SweepSpec, points_of
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import publish_csv, publish_json, publish_manifest
from pipeline.training.history import Clock

CURVE = "curve.csv"


def head_curve(
    spec: dict[str, Any], dataset: str, features: str, folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Fit a head for each label budget of a SweepSpec as JSON (5%#2) and publish its accuracies in folder.

    For each budget the setting is chosen on val from the space, and the chosen head, which has seen the given
    labels alone, answers test once. Features are standardised by all training images, whose labels that does
    not need. Returns costs.
    """
    clock, target = Clock(), Path(folder)
    state = numerics.start(seed=0, precision="float32")
    told = SweepSpec(**spec)
    recipe, points = told.head(), points_of(told.axes())
    images, store = ImageStore(dataset), FeatureStore(features)
    with clock.stage("read features"):
        every = override(recipe, {"label_budget": ALL_LABELS, "fit_on": "train"})
        reader = Reader.of(every, store, len(images.class_names))
        both = np.concatenate([store.rows("val"), store.rows("test")])
        whole = HeadData(replace(reader.examples(recipe.layers), val=both), floor=reader.floor)
    rows = []
    with clock.stage("heads"):
        for number, text in enumerate(told.labels):
            train = given_rows(store.labels, store.rows("train"), text, store.index)
            found = _budget(recipe, points, whole.with_train(train), images.counts["val"])
            rows.append({"labels": text, "n_train": len(train), **found})
            progress("label budgets", number + 1, len(told.labels), "fits")
    costs = {"seconds": clock.total(), "stages": clock.stages, **state}
    publish_csv(target / CURVE, pd.DataFrame(rows))
    publish_json(target / COSTS, costs)
    publish_manifest(target, told.fingerprint, [CURVE, COSTS])
    return costs


def _budget(recipe: Head, points: Points, data: HeadData, n_val: int) -> dict[str, Any]:
    """Return the chosen setting and the accuracies of its head on val and test."""
    answers = resolve(f"{recipe.module}:answers")(recipe, points, data)
    right = [one.mean(axis=0).argmax(axis=1) == data.val_labels for one in answers]
    best = max(range(len(points)), key=lambda number: right[number][:n_val].sum())
    return {
        "val_accuracy": float(right[best][:n_val].mean()),
        "accuracy": float(right[best][n_val:].mean()),
        "n_test": len(right[best]) - n_val,
        "chosen": " ".join(f"{name}={value:g}" for name, value in points[best].items()),
    }
