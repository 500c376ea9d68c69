"""Sweeps: all settings of a space tried on train, ranked on val, from one reading of the features.

A space names the values that some settings of a recipe take; a sweep tries every combination. Settings that
one computation can tell apart (learning rates, penalties, layer sets, …) are tried side by side.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from pipeline.errors import Diverged
from pipeline.extensions import resolve
from pipeline.heads.calibration import cross_entropy, fit_temperature, probabilities_of
from pipeline.heads.data import HeadData, Points
from pipeline.heads.fit import Reader
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import Head, Uncalibrated
from pipeline.recipes.settings import override
from pipeline.recipes.sweep import SEED, apart, groups_of, layers_of, points_of

Load = Callable[[tuple[str, ...]], HeadData]


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
    points, load = points_of(space), functools.lru_cache(maxsize=1)(read)  # groups may share their layers
    for group in groups_of(recipe, points):
        began = time.perf_counter()
        tried = [points[number] for number in group]
        data, answers = _answers(recipe, tried, read, load, precision=precision, progress=progress)
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
    recipe: Head, points: Points, read: Reader, load: Load, **options: Any
) -> tuple[HeadData, list[np.ndarray]]:
    """Return the data and each point's answers (V, n, C) on val.

    Where networks see different layers, all of these are read and each head has a mask of its own.
    """
    recipe = override(recipe, apart(recipe, points[0]))
    own = tuple(point.get("layers", recipe.layers) for point in points)
    layers = layers_of(recipe, {"layers": own})
    if len(set(own)) > 1:
        widths = [read.width(layer) for layer in layers]
        masks = [np.repeat([layer in seen for layer in layers], widths) for seen in own]
        options["masks"] = np.stack(masks, axis=1)
    data = load(layers)
    return data, resolve(f"{recipe.module}:answers")(recipe, points, data, **options)


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


def _pooled(points: Points, scores: list[tuple[Any, ...]]) -> list[Trial]:
    """Return a trial for each combination of settings, over its seeds, best first."""
    pools: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        pools.setdefault(repr([(k, v) for k, v in point.items() if k != SEED]), []).append(number)
    trials = []
    for numbers in pools.values():
        accuracies, losses, temperatures, seconds = zip(*(scores[number] for number in numbers), strict=True)
        settings = {name: value for name, value in points[numbers[0]].items() if name != SEED}
        spread = statistics.stdev(accuracies) if len(numbers) > 1 else None
        accuracy, loss = statistics.fmean(accuracies), statistics.fmean(losses)
        trials.append(Trial(settings, len(numbers), accuracy, spread, loss, temperatures[0], sum(seconds)))
    return sorted(trials, key=lambda trial: (trial.val_loss == math.inf, -trial.val_accuracy, trial.val_loss))
