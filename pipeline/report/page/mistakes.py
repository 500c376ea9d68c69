"""Errors on test for the page.

Accuracy by class, confusion matrices, calibration, and the images on which schemes disagree.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.formatting import format_interval, format_value
from pipeline.report.page import charts
from pipeline.results.scores import calibration_error, class_scores, reliability
from pipeline.runs.result import RunResult, label

MAX_CLASSES = 20  # with more, the table has the least accurate and a confusion matrix becomes its worst pairs
WORST_PAIRS = 15
THUMBNAIL = 128  # pixels
MAX_SPLIT, MAX_ONE_RIGHT, MAX_NONE_RIGHT = 12, 6, 6  # images in each group of examples


def class_accuracies(runs: list[RunResult]) -> dict[str, Any]:
    """Return the accuracy of each run on each class; of many classes only the hardest."""
    all_classes = list(runs[0].recipe["class_names"])
    tables = {}
    for run in runs:
        scores = class_scores(run.split("test")).query("metric == 'recall'").set_index("class")
        tables[f"{label(run)} · seed {run.recipe['seed']}"] = scores.reindex(all_classes)
    names = all_classes
    if len(all_classes) > MAX_CLASSES:
        shares = pd.DataFrame({name: table["value"] for name, table in tables.items()})
        names = shares.mean(axis=1).nsmallest(MAX_CLASSES).index.tolist()
    rows = []
    for name, table in tables.items():
        values = table.loc[names, ["value", "low", "high"]].itertuples(index=False)
        rows.append({"name": name, "cells": [(value[0], format_interval(*value)) for value in values]})
    data_set = runs[0].recipe["dataset_title"]
    return {"data_set": data_set, "names": names, "left_out": len(all_classes) - len(names), "rows": rows}


def confusion(name: str, runs: list[RunResult]) -> dict[str, Any]:
    """Return the confusion matrix of a scheme, summed over its seeds, and the most confused pairs."""
    names = runs[0].recipe["class_names"]
    counts = np.zeros((len(names), len(names)), np.int64)
    for run in runs:
        test = run.split("test")
        np.add.at(counts, (test.labels, test.probabilities.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [
        {"name": class_name, "cells": list(zip(class_counts.tolist(), class_shares.tolist(), strict=True))}
        for class_name, class_counts, class_shares in zip(names, counts, shares, strict=True)
        if len(names) <= MAX_CLASSES
    ]
    accuracy = format_value(np.trace(counts) / max(1, counts.sum()), "%")
    wrong = counts - np.diag(np.diag(counts))
    largest = np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]
    pairs = zip(*np.unravel_index(largest, wrong.shape), strict=True)
    worst = [(names[i], names[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]
    return {"name": name, "accuracy": accuracy, "names": names, "rows": rows, "worst": worst}


def calibration(number: int, name: str, runs: list[RunResult]) -> dict[str, Any]:
    """Return the expected calibration error of a scheme and its reliability diagram, number on the page."""
    tests = [run.split("test") for run in runs]
    errors = [calibration_error(test.probabilities, test.labels) for test in tests]
    error = format_value(sum(errors) / len(errors), "%")
    alt = f"Confidence against accuracy of {name} on test; the expected calibration error is {error}."
    tables = [reliability(test) for test in tests]
    chart = charts.svg(f"calibration-{number}", alt, charts.reliability, tables)
    return {"name": name, "error": error, "chart": chart}


def examples(runs: Sequence[RunResult], images: ImageStore) -> list[dict[str, Any]]:
    """Return groups of test images with the class that each run predicts; runs come most accurate first.

    The groups: predictions most split (by entropy, ties in the order of the data set), only the most
    accurate run is right, and no run is. Raises DamagedFile if a run used other images than the data set.
    """
    first = runs[0].split("test")
    runs = [run for run in runs if np.array_equal(run.split("test").index, first.index)]
    predicted = np.stack([run.split("test").probabilities.argmax(axis=1) for run in runs])  # (R, N)
    rows = pd.Index(images.index).get_indexer(pd.Index(first.index))
    if (rows < 0).any() or (images.labels[rows] != first.labels).any():
        raise DamagedFile(f"{images.path}: the runs were tested on other images; prepare the data again")
    right = predicted == first.labels
    shares = np.stack([(predicted == number).mean(axis=0) for number in range(len(first.class_names))])
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=0)  # (N,) nats
    only_best = right[0] & (right.sum(axis=0) == 1)
    candidates = [
        ("Most disagreement", _largest(entropy, entropy > 0, MAX_SPLIT)),
        (f"Only {label(runs[0])} is right", _largest(entropy, only_best, MAX_ONE_RIGHT)),
        ("No scheme is right", _largest(-entropy, ~right.any(axis=0), MAX_NONE_RIGHT)),
    ]
    groups = []
    for title, positions in candidates if len(runs) > 1 else candidates[2:]:
        cards = [_card(i, runs, predicted[:, i], rows[i], images) for i in positions]
        groups += [{"title": title, "cards": cards}] if cards else []
    return groups


def _largest(values: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    positions = np.flatnonzero(candidates)
    return positions[np.argsort(-values[positions], kind="stable")[:count]]


def _card(
    position: int, runs: Sequence[RunResult], predicted: np.ndarray, row: int, images: ImageStore
) -> dict[str, Any]:
    test = runs[0].split("test")
    votes: dict[str, list[str]] = defaultdict(list)
    for run, class_number in zip(runs, predicted, strict=True):
        votes[test.class_names[class_number]].append(label(run))
    true = test.class_names[test.labels[position]]
    return {
        "name": str(test.names[position]),
        "true": true,
        "picture": _picture(images.images[row]),
        "votes": [
            {"class": name, "right": name == true, "by": list(dict.fromkeys(by)), "count": len(by)}
            for name, by in sorted(votes.items(), key=lambda vote: -len(vote[1]))
        ],
    }


def _picture(pixels: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8, at most THUMBNAIL pixels per side, as the data URL of a PNG."""
    file, image = io.BytesIO(), Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
