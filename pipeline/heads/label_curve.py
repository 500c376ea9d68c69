"""How a head's accuracy grows with the labels that it is given, from cached features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import numerics
from pipeline.datasets.budget import ALL_LABELS
from pipeline.datasets.split import given_rows
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.heads.data import HeadData
from pipeline.heads.fit import Reader
from pipeline.names import resolve
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import Head
from pipeline.recipes.settings import override
from pipeline.recipes.sweep import SweepSpec, points_of
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import publish_csv, publish_json, publish_manifest
from pipeline.training.clock import Clock

CURVE = "curve.csv"


def head_curve(
    spec: dict[str, Any], dataset: str, features: str, folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Fit a head for each label budget of a SweepSpec as JSON (5%#2) and publish its accuracies in folder.

    For each budget the setting is
    chosen on val from the space, and the chosen head, which has seen the given labels alone, answers test
    once. Features are standardised by all training images, whose labels that does not need. Returns costs.
    """
    clock, target = Clock(), Path(folder)
    state = numerics.start(seed=0, precision="float32")
    told = SweepSpec(**spec)
    recipe, space = told.head(), told.axes()
    images, store = ImageStore(dataset), FeatureStore(features)
    with clock.stage("read features"):
        every = override(recipe, {"labels": ALL_LABELS, "fit_on": "train"})
        whole = Reader.of(every, store, len(images.class_names))(recipe.layers)
        evaluated = _evaluated(whole, store)
        evaluated.val  # noqa: B018 -- standardises val and test once for all budgets
    rows = []
    with clock.stage("heads"):
        for number, text in enumerate(told.labels):
            train = given_rows(store.labels, store.rows("train"), text, store.index)
            found = _budget(recipe, points_of(space), evaluated.with_train(train), images.counts["val"])
            rows.append({**found, "labels": text, "n_train": len(train)})
            progress("label budgets", number + 1, len(told.labels), "fits")
    return _publish(target, rows, {"seconds": clock.total(), "stages": clock.stages, **state}, told)


def _evaluated(data: HeadData, store: FeatureStore) -> HeadData:
    """Return data whose val rows are val and test together, standardised by all training rows."""
    examples = data.examples
    both = np.concatenate([store.rows("val"), store.rows("test")])
    return HeadData(replace(examples, val=both), standard=examples.train, floor=data.floor)


def _budget(recipe: Head, points: list[dict[str, Any]], data: HeadData, n_val: int) -> dict[str, Any]:
    """Return the chosen setting and the accuracies of its head on val and test."""
    answers = resolve(f"{recipe.module}:answers")(recipe, points, data)
    right = [one.mean(axis=0).argmax(axis=1) == data.val_labels for one in answers]
    best = max(range(len(points)), key=lambda number: right[number][:n_val].sum())
    return {
        "chosen": " ".join(f"{name}={value:g}" for name, value in points[best].items()),
        "val_accuracy": float(right[best][:n_val].mean()),
        "accuracy": float(right[best][n_val:].mean()),
        "n_test": len(right[best]) - n_val,
    }


def _publish(
    target: Path, rows: list[dict[str, Any]], costs: dict[str, Any], told: SweepSpec
) -> dict[str, Any]:
    columns = ["labels", "n_train", "val_accuracy", "accuracy", "n_test", "chosen"]
    publish_csv(target / CURVE, pd.DataFrame(rows, columns=columns))
    publish_json(target / COSTS, costs)
    publish_manifest(target, told.fingerprint, [CURVE, COSTS])
    return costs
