"""Sweeps: try every combination of a space on train and rank them on val; features are read once.

A space lists values for some settings of a recipe. Combinations that one computation can handle together
(learning rates, penalties, layer sets, …) are trained together.
"""

import functools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import Diverged
from pipeline.extensions import resolve
from pipeline.heads.calibration import fit_temperature, probabilities_of
from pipeline.heads.data import HeadData, Points
from pipeline.heads.fit import HeadDataLoader
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import Head, UncalibratedHead
from pipeline.recipes.settings import override
from pipeline.recipes.sweep import SEED, groups_of, layers_of, points_of, separate_settings
from pipeline.training.classifier import cross_entropy

Load = Callable[[tuple[str, ...]], HeadData]


@dataclass(frozen=True)
class SweepTrial:
    """One combination of settings: its scores on val, pooled over seeds, and its share of the time.

    val_accuracy and val_loss are means over seeds; spread is the standard deviation of the accuracy, None
    with one seed. Logits are divided by temperature, None for kinds that need none.
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
    loader: HeadDataLoader,
    *,
    precision: str = "float32",
    progress: Progress = silent,
) -> list[SweepTrial]:
    """Return the trials of a space, best first: by val accuracy, then by val loss, then in the space's order.

    A trial in which any seed diverged comes last. Raises Diverged when every head diverged.
    """
    scores: dict[int, tuple[Any, ...]] = {}
    points, load = points_of(space), functools.lru_cache(maxsize=1)(loader)  # groups may share layers
    for group in groups_of(recipe, points):
        start = time.perf_counter()
        group_points = [points[number] for number in group]
        data, logits = _predict(recipe, group_points, loader, load, precision=precision, progress=progress)
        group_scores = [_score(recipe, head_logits, data.val_labels) for head_logits in logits]
        seconds = (time.perf_counter() - start) / len(group)
        scores |= {n: (*score, seconds) for n, score in zip(group, group_scores, strict=True)}
    trials = _pool_seeds(points, [scores[number] for number in range(len(points))])
    if trials[0].val_loss == math.inf:
        raise Diverged(f"sweep of {recipe.name}: every head diverged; try smaller learning rates")
    return trials


def _predict(
    recipe: Head, points: Points, loader: HeadDataLoader, load: Load, **options: Any
) -> tuple[HeadData, list[np.ndarray]]:
    """Return the data and each point's val logits (V, n, C); if points differ in layers, heads get masks."""
    recipe = override(recipe, separate_settings(recipe, points[0]))
    layer_sets = tuple(point.get("layers", recipe.layers) for point in points)
    layers = layers_of(recipe, {"layers": layer_sets})
    if len(set(layer_sets)) > 1:
        widths = [loader.width(layer) for layer in layers]
        masks = [np.repeat([layer in layer_set for layer in layers], widths) for layer_set in layer_sets]
        options["masks"] = np.stack(masks, axis=1)
    data = load(layers)
    return data, resolve(f"{recipe.module}:predict_logits")(recipe, points, data, **options)


def _score(recipe: Head, logits: np.ndarray, labels: np.ndarray) -> tuple[Any, ...]:
    """Return accuracy, loss and temperature; the loss of a head that diverged is infinite."""
    if not np.isfinite(logits).all():
        return 0.0, math.inf, None
    temperature = None
    if isinstance(recipe, UncalibratedHead):
        temperature = recipe.temperature or fit_temperature(logits, labels)
    probabilities = probabilities_of(logits, temperature or 1.0)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, cross_entropy(probabilities, labels), temperature


def _pool_seeds(points: Points, scores: list[tuple[Any, ...]]) -> list[SweepTrial]:
    """Return a trial for each combination of settings, pooled over seeds, best first."""
    pools: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        pools.setdefault(repr([(k, v) for k, v in point.items() if k != SEED]), []).append(number)
    trials = []
    for numbers in pools.values():
        accuracies, losses, temperatures, seconds = zip(*(scores[number] for number in numbers), strict=True)
        settings = {name: value for name, value in points[numbers[0]].items() if name != SEED}
        spread = statistics.stdev(accuracies) if len(numbers) > 1 else None
        val_scores = statistics.fmean(accuracies), spread, statistics.fmean(losses)
        trials.append(SweepTrial(settings, len(numbers), *val_scores, temperatures[0], sum(seconds)))
    return sorted(trials, key=lambda trial: (trial.val_loss == math.inf, -trial.val_accuracy, trial.val_loss))
