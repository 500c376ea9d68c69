"""Sweeps: all settings of a space tried on train, ranked on val, from one reading of the features.

A space names the values that some settings of a recipe take; a sweep tries every combination. Settings that
one computation can tell apart (learning rates, penalties, layer sets, …) are tried side by side.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from pipeline.errors import Diverged
from pipeline.heads.calibration import cross_entropy, fit_temperature, probabilities_of
from pipeline.heads.data import HeadData
from pipeline.heads.fit import Reader
from pipeline.heads.stacked import train_stack
from pipeline.names import resolve
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import Head, NetworkHead, Uncalibrated
from pipeline.recipes.settings import override
from pipeline.recipes.sweep import SEED, apart, groups_of, layers_of, points_of


@dataclass(frozen=True)
class Trial:
    """One combination: its settings, what it reached on val (seeds are pooled), and its share of the time.

    val_accuracy and val_loss are means over the seeds, spread the standard deviation of the accuracy (None
    with one seed). temperature is what answers are divided by, None for kinds that need none.
    """

    settings: dict[str, Any]
    seeds: int
    val_accuracy: float
    spread: float | None
    val_loss: float
    temperature: float | None
    seconds: float


def sweep(
    recipe: Head,
    space: dict[str, tuple[Any, ...]],
    read: Reader,
    *,
    precision: str = "float32",
    progress: Progress = silent,
) -> list[Trial]:
    """Return the trials of a space, best first: by val accuracy, then by val loss, then in the space's order.

    A trial of which any seed diverged comes last. read gives the data of a layer set.
    Raises Diverged when no head answers with finite numbers.
    """
    found: dict[int, tuple[Any, ...]] = {}
    points = points_of(space)
    for group in groups_of(recipe, points):
        began = time.perf_counter()
        data, answers = _answers(recipe, [points[number] for number in group], read, precision, progress)
        scores = [_scored(recipe, one, data.val_labels) for one in answers]
        seconds = (time.perf_counter() - began) / len(group)
        found |= {number: (*score, seconds) for number, score in zip(group, scores, strict=True)}
    trials = _pooled(points, [found[number] for number in range(len(points))])
    if trials[0].val_loss == math.inf:
        raise Diverged(
            f"sweep of {recipe.name}: no head answers with finite numbers; try smaller learning rates"
        )
    return trials


def _answers(
    recipe: Head, points: list[dict[str, Any]], read: Reader, precision: str, progress: Progress
) -> tuple[HeadData, list[np.ndarray]]:
    """Return the data and each point's answers (V, n, C) on val."""
    recipe = override(recipe, apart(recipe, points[0]))
    if isinstance(recipe, NetworkHead) and len({point.get("layers") for point in points}) > 1:
        return _masked_answers(recipe, points, read, precision, progress)
    data = read(points[0].get("layers", recipe.layers))
    return data, resolve(f"{recipe.module}:answers")(
        recipe, points, data, precision=precision, progress=progress
    )


def _masked_answers(
    recipe: NetworkHead, points: list[dict[str, Any]], read: Reader, precision: str, progress: Progress
) -> tuple[HeadData, list[np.ndarray]]:
    """Return the same where heads see different layers: all are read, each head has a mask of its own."""
    layers = layers_of(recipe, {"layers": tuple(point["layers"] for point in points)})
    data = read(layers)
    widths = [read.width(layer) for layer in layers]
    masks = np.stack(
        [np.repeat([layer in point["layers"] for layer in layers], widths) for point in points], axis=1
    )
    found = train_stack(recipe, points, data, precision=precision, masks=masks, progress=progress)
    return data, [data.by_view(found[:, number]) for number in range(len(points))]


def _scored(recipe: Head, answers: np.ndarray, labels: np.ndarray) -> tuple[Any, ...]:
    """Return accuracy, loss and temperature; a head that does not answer with finite numbers is last."""
    if not np.isfinite(answers).all():
        return 0.0, math.inf, None
    temperature = None
    if not recipe.calibrated:
        temperature = cast(Uncalibrated, recipe).temperature or fit_temperature(answers, labels)
    probabilities = probabilities_of(answers, temperature or 1.0)
    right = float((probabilities.argmax(axis=1) == labels).mean())
    return right, cross_entropy(probabilities, labels), temperature


def _pooled(points: list[dict[str, Any]], scores: list[tuple[Any, ...]]) -> list[Trial]:
    """Return a trial for each combination of settings, over its seeds, best first."""
    pools: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        pools.setdefault(repr([(k, v) for k, v in point.items() if k != SEED]), []).append(number)
    trials = []
    for numbers in pools.values():
        accuracies, losses, temperatures, seconds = zip(*(scores[number] for number in numbers), strict=True)
        trials.append(
            Trial(
                settings={name: value for name, value in points[numbers[0]].items() if name != SEED},
                seeds=len(numbers),
                val_accuracy=statistics.fmean(accuracies),
                spread=statistics.stdev(accuracies) if len(numbers) > 1 else None,
                val_loss=statistics.fmean(losses),
                temperature=temperatures[0],
                seconds=sum(seconds),
            )
        )
    return sorted(trials, key=lambda trial: (trial.val_loss == math.inf, -trial.val_accuracy, trial.val_loss))
