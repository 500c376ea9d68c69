"""What schemes were right and wrong about on test, as a page shows it.

By class, by confusion, by confidence, and as small pictures of the images on which they disagree.
"""

from __future__ import annotations

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

MOST_CLASSES = 20  # beyond this, a table of classes is cut to the least accurate, a matrix to its worst pairs
WORST_PAIRS = 15
SPLIT_VOTES, BEST_ALONE, NOBODY = 12, 6, 6  # images of each group of examples


def classes(runs: list[RunResult]) -> dict[str, Any]:
    """Return the share of each class's images that each scheme is right on; of many classes the hardest."""
    every = list(runs[0].recipe["class_names"])
    tables = {}
    for run in runs:
        scores = class_scores(run.split("test")).query("metric == 'recall'").set_index("class")
        tables[f"{label(run)} · seed {run.recipe['seed']}"] = scores.reindex(every)
    names = every
    if len(every) > MOST_CLASSES:
        shares = pd.DataFrame({name: table["value"] for name, table in tables.items()})
        names = shares.mean(axis=1).nsmallest(MOST_CLASSES).index.tolist()
    rows = []
    for name, table in tables.items():
        shown_classes = table.loc[names, ["value", "low", "high"]].itertuples(index=False)
        rows.append({"name": name, "cells": [(one[0], format_interval(*one)) for one in shown_classes]})
    data_set = runs[0].recipe["dataset_title"]
    return {"data_set": data_set, "names": names, "left_out": len(every) - len(names), "rows": rows}


def confusion(name: str, runs: list[RunResult]) -> dict[str, Any]:
    """Return counts of true against predicted classes over all seeds, and the pairs confused most."""
    names = runs[0].recipe["class_names"]
    counts = np.zeros((len(names), len(names)), np.int64)
    for run in runs:
        test = run.split("test")
        np.add.at(counts, (test.labels, test.probabilities.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [
        {"name": one, "cells": list(zip(of_class.tolist(), parts.tolist(), strict=True))}
        for one, of_class, parts in zip(names, counts, shares, strict=True)
        if len(names) <= MOST_CLASSES
    ]
    right = format_value(np.trace(counts) / max(1, counts.sum()), "%")
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
    errors = [calibration_error(test.probabilities, test.labels) for test in tests]
    error = format_value(sum(errors) / len(errors), "%")
    words = f"Confidence against accuracy of {name} on test; the expected calibration error is {error}."
    tables = [reliability(test) for test in tests]
    chart = charts.svg(f"calibration-{place}", words, charts.reliability, tables)
    return {"name": name, "error": error, "chart": chart}


def examples(runs: Sequence[RunResult], images: ImageStore) -> list[dict[str, Any]]:
    """Return groups of test images with what each run called them; runs come most accurate first.

    The groups: votes most split (by entropy, ties in the order of the data set), only the most accurate
    run is right, and nobody is. Raises DamagedFile where a run's images are not those of the data set.
    """
    first = runs[0].split("test")
    runs = [run for run in runs if np.array_equal(run.split("test").index, first.index)]
    calls = np.stack([run.split("test").probabilities.argmax(axis=1) for run in runs])  # (R, N)
    rows = _rows_in_store(first.index, first.labels, images)
    right = calls == first.labels
    shares = np.stack([(calls == one).mean(axis=0) for one in range(len(first.class_names))])
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=0)  # (N,) nats
    alone = right[0] & (right.sum(axis=0) == 1)
    chosen = [
        ("The most split votes", _greatest(entropy, entropy > 0, SPLIT_VOTES)),
        (f"Only {label(runs[0])} is right", _greatest(entropy, alone, BEST_ALONE)),
        ("No scheme is right", _greatest(-entropy, ~right.any(axis=0), NOBODY)),
    ]
    groups = []
    for title, places in chosen if len(runs) > 1 else chosen[2:]:
        cards = [_card(place, runs, calls[:, place], rows[place], images) for place in places]
        groups += [{"title": title, "cards": cards}] if cards else []
    return groups


def _rows_in_store(index: np.ndarray, labels: np.ndarray, images: ImageStore) -> np.ndarray:
    """Return the positions in the store of images given by their index in the source."""
    rows = pd.Index(images.index).get_indexer(pd.Index(index))
    if (rows < 0).any() or (images.labels[rows] != labels).any():
        raise DamagedFile(f"{images.path}: its test images are not those that the runs were tested on")
    return rows


def _greatest(values: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    places = np.flatnonzero(among)
    return places[np.argsort(-values[places], kind="stable")[:count]]


def _card(
    place: int, runs: Sequence[RunResult], calls: np.ndarray, row: int, images: ImageStore
) -> dict[str, Any]:
    test = runs[0].split("test")
    said: dict[str, list[str]] = defaultdict(list)
    for run, call in zip(runs, calls, strict=True):
        said[test.class_names[call]].append(label(run))
    true = test.class_names[test.labels[place]]
    votes = sorted(said.items(), key=lambda pair: -len(pair[1]))
    return {
        "name": str(test.names[place]),
        "true": true,
        "picture": _picture(images.images(int(row), int(row) + 1)[0]),
        "votes": [
            {"called": called, "right": called == true, "by": list(dict.fromkeys(by)), "count": len(by)}
            for called, by in votes
        ],
    }


def _picture(pixels: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 as the address of a PNG that is its own content."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
