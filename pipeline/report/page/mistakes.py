"""What schemes were right and wrong about on test, as a page shows it: by class, confusion and confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.formatting import shown, shown_interval
from pipeline.report.page import charts
from pipeline.results.scores import calibration_error, class_scores, reliability
from pipeline.runs.result import RunResult, label

MOST_CLASSES = 20  # beyond this, a table of classes is cut to the least accurate, a matrix to its worst pairs
WORST_PAIRS = 15


def classes(runs: list[RunResult]) -> dict[str, Any]:
    """Return the share of each class's images that each scheme is right on; of many classes the hardest."""
    tables = {
        label(run) + (f" · seed {run.recipe['seed']}"): class_scores(run.split("test"))
        .query("metric == 'recall'")
        .set_index("class")
        for run in runs
    }
    names = list(runs[0].recipe["class_names"])
    shares = pd.DataFrame({name: table["value"] for name, table in tables.items()}).reindex(names)
    if len(names) > MOST_CLASSES:
        names = shares.mean(axis=1).nsmallest(MOST_CLASSES).index.tolist()
    rows = [
        {
            "name": name,
            "cells": [
                (table.loc[cls, "value"], shown_interval(*table.loc[cls, ["value", "low", "high"]]))
                for cls in names
            ],
        }
        for name, table in tables.items()
    ]
    return {
        "data_set": runs[0].recipe["dataset_title"],
        "names": names,
        "left_out": len(runs[0].recipe["class_names"]) - len(names),
        "rows": rows,
    }


def confusion(name: str, runs: list[RunResult]) -> dict[str, Any]:
    """Return counts of true against predicted classes over all seeds, and the pairs confused most."""
    names = runs[0].recipe["class_names"]
    counts = np.zeros((len(names), len(names)), np.int64)
    for run in runs:
        test = run.split("test")
        np.add.at(counts, (test.labels, test.probabilities.argmax(axis=1)), 1)
    rows = []
    if len(names) <= MOST_CLASSES:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        rows = [
            {"name": cls, "cells": list(zip(counts[place].tolist(), shares[place].tolist(), strict=True))}
            for place, cls in enumerate(names)
        ]
    right = shown(np.trace(counts) / max(1, counts.sum()), "%")
    return {"name": name, "accuracy": right, "names": names, "rows": rows, "worst": _worst(counts, names)}


def _worst(counts: np.ndarray, names: list[str]) -> list[tuple[str, str, int]]:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]
    places = (np.unravel_index(place, wrong.shape) for place in order)
    return [
        (names[row], names[column], int(wrong[row, column])) for row, column in places if wrong[row, column]
    ]


def calibration(place: int, name: str, runs: list[RunResult]) -> dict[str, Any]:
    """Return the expected calibration error of a scheme and its chart, the place-th of the page."""
    tests = [run.split("test") for run in runs]
    tables = [reliability(test) for test in tests]
    errors = [calibration_error(test.probabilities, test.labels) for test in tests]
    error = shown(sum(errors) / len(errors), "%")
    words = f"Confidence against accuracy of {name} on test; the expected calibration error is {error}."
    chart = charts.svg(f"calibration-{place}", words, charts.reliability, tables)
    return {"name": name, "error": error, "chart": chart}
