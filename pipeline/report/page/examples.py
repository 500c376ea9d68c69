"""Test images on which schemes disagree, as small pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.runs.result import RunResult, label

SPLIT_VOTES, BEST_ALONE, NOBODY = 12, 6, 6


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
    entropy = _entropy(calls, len(first.class_names))
    alone = right[0] & (right.sum(axis=0) == 1)
    missed = ~right.any(axis=0)
    chosen = [
        ("The most split votes", _greatest(entropy, entropy > 0, SPLIT_VOTES)),
        (f"Only {label(runs[0])} is right", _greatest(entropy, alone, BEST_ALONE)),
        ("No scheme is right", _greatest(-entropy, missed, NOBODY)),
    ]
    if len(runs) == 1:
        chosen = chosen[2:]
    return [
        {
            "title": title,
            "cards": [_card(place, runs, calls[:, place], rows[place], images) for place in places],
        }
        for title, places in chosen
        if len(places)
    ]


def _rows_in_store(index: np.ndarray, labels: np.ndarray, images: ImageStore) -> np.ndarray:
    """Return the positions in the store of images given by their index in the source."""
    order = np.argsort(images.index, kind="stable")
    rows = order[np.searchsorted(images.index, index, sorter=order).clip(max=len(order) - 1)]
    if not ((images.index[rows] == index).all() and (images.labels[rows] == labels).all()):
        raise DamagedFile(f"{images.path}: its test images are not those that the runs were tested on")
    return rows


def _entropy(calls: np.ndarray, classes: int) -> np.ndarray:
    """Return (N,) the entropy in nats of the runs' calls (R, N) for each image."""
    shares = np.stack([(calls == one).mean(axis=0) for one in range(classes)])
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=0)


def _greatest(values: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    places = np.flatnonzero(among)
    return places[np.argsort(-values[places], kind="stable")[:count]]


def _card(
    place: int, runs: Sequence[RunResult], calls: np.ndarray, row: int, images: ImageStore
) -> dict[str, Any]:
    test = runs[0].split("test")
    said: dict[str, list[str]] = {}
    for run, call in zip(runs, calls, strict=True):
        said.setdefault(test.class_names[call], []).append(label(run))
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
