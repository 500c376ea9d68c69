"""How a head's accuracy grows with the labels that it is given, from cached features."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import numerics
from pipeline.datasets.labels import ALL_LABELS, given_rows
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.heads.data import HeadData
from pipeline.heads.recipes import HEADS, Head
from pipeline.heads.sweep import checked_space, points_of
from pipeline.heads.train import Reader
from pipeline.progress import Progress, silent
from pipeline.publishing import publish_json, publish_manifest, published
from pipeline.training.record import Clock
from pipeline.training.settings import override

CURVE, COSTS = "curve.csv", "costs.json"


def head_curve(
    order: dict[str, Any], dataset: str, features: str, folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Fit a head for each of order's labels (texts such as 5%#2) and publish its accuracies in folder.

    order has recipe, settings, space, labels, and the whole fingerprint. For each budget the setting is
    chosen on val from the space, and the chosen head, which has seen the given labels alone, answers test
    once. Features are standardised by all training images, whose labels that does not need. Returns costs.
    """
    clock, target = Clock(), Path(folder)
    state = numerics.start(seed=0, precision="float32")
    recipe = override(HEADS[order["recipe"]], order["settings"])
    space = checked_space(recipe, {**dict.fromkeys(recipe.space, ()), **order["space"]})
    images, store = ImageStore(dataset), FeatureStore(features)
    with clock.stage("read features"):
        every = override(recipe, {"labels": ALL_LABELS, "fit_on": "train"})
        whole = Reader.of(every, store, len(images.class_names))(recipe.layers)
        evaluated = _evaluated(whole, store)
        evaluated.val  # noqa: B018 -- standardises val and test once for all budgets
    rows = []
    with clock.stage("heads"):
        for number, text in enumerate(order["labels"]):
            train = given_rows(store.labels, store.rows("train"), text, store.index)
            found = _budget(recipe, points_of(space), evaluated.with_train(train), images.counts["val"])
            rows.append({**found, "labels": text, "n_train": len(train)})
            progress("label budgets", number + 1, len(order["labels"]), "fits")
    return _publish(target, rows, {"seconds": clock.total(), "stages": clock.stages, **state}, order)


def _evaluated(data: HeadData, store: FeatureStore) -> HeadData:
    """Return data whose val rows are val and test together, standardised by all training rows."""
    import numpy as np

    examples = data.examples
    both = np.concatenate([store.rows("val"), store.rows("test")])
    return HeadData(replace(examples, val=both), standard=examples.train, floor=data.floor)


def _budget(recipe: Head, points: list[dict[str, Any]], data: HeadData, n_val: int) -> dict[str, Any]:
    """Return the chosen setting and the accuracies of its head on val and test."""
    answers = importlib.import_module(recipe.module).answers(recipe, points, data)
    right = [one.mean(axis=0).argmax(axis=1) == data.val_labels for one in answers]
    best = max(range(len(points)), key=lambda number: right[number][:n_val].sum())
    return {
        "chosen": " ".join(f"{name}={value:g}" for name, value in points[best].items()),
        "val_accuracy": float(right[best][:n_val].mean()),
        "accuracy": float(right[best][n_val:].mean()),
        "n_test": len(right[best]) - n_val,
    }


def _publish(
    target: Path, rows: list[dict[str, Any]], costs: dict[str, Any], order: dict[str, Any]
) -> dict[str, Any]:
    import pandas as pd

    columns = ["labels", "n_train", "val_accuracy", "accuracy", "n_test", "chosen"]
    with published(target / CURVE) as scratch:
        pd.DataFrame(rows, columns=columns).to_csv(scratch, index=False)
    publish_json(target / COSTS, costs)
    publish_manifest(target, order["fingerprint"], [CURVE, COSTS])
    return costs
