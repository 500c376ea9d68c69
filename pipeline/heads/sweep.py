"""Sweeps: all settings of a space tried on train, ranked on val, from one reading of the features.

A space names the values that some settings of a recipe take; a sweep tries every combination. Settings that
one computation can tell apart (learning rates, penalties, layer sets, …) are tried side by side.
"""

from __future__ import annotations

import importlib
import itertools
import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import BadInput, Diverged
from pipeline.heads.calibration import cross_entropy, fit_temperature, probabilities_of
from pipeline.heads.recipes import Head, NetworkHead, Uncalibrated
from pipeline.progress import Progress, silent
from pipeline.training.settings import checked_all, override

if TYPE_CHECKING:
    import numpy as np

    from pipeline.heads.data import HeadData
    from pipeline.heads.train import Reader

LARGEST_SPACE = 4096  # combinations; a mistyped space should not run for a week
SEED = "seed"
FIXED = (
    "views",
    "fit_on",
    "labels",
    "temperature",
    "variance_floor",
)  # all heads of a sweep learn from the same examples


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


def checked_space(recipe: Head, space: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the space to try: the recipe's own with axes replaced or added by space; raise BadInput.

    An axis is a setting of the recipe or "seed"; a layer set is a list of layers or a text with commas. A
    value that is named twice is tried once.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for name, values in {**recipe.space, **space}.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
            raise BadInput(
                f"space of {recipe.name}: expected a list of values for {name}, received {values!r}"
            )
        wanted = tuple(_listed(value) if name in ("layers", "units") else value for value in values)
        if not wanted:
            continue  # an empty list leaves the setting as the recipe has it
        if name in FIXED:
            raise BadInput(
                f"space of {recipe.name}: expected no axis {name}, which all heads of a sweep share; "
                "set it beside the space"
            )
        known = _checked_seeds(recipe, wanted) if name == SEED else checked_all(recipe, name, wanted)
        found[name] = tuple(dict.fromkeys(known))
    count = math.prod(len(values) for values in found.values())
    if count > LARGEST_SPACE:
        raise BadInput(
            f"space of {recipe.name}: expected {LARGEST_SPACE} combinations at most, received {count}"
        )
    _check_together(recipe, points_of(found))
    return found


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _checked_seeds(recipe: Head, seeds: tuple[Any, ...]) -> tuple[int, ...]:
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise BadInput(f"space of {recipe.name}: expected seeds of 0 or more, received {seed!r}")
    return seeds


def _check_together(recipe: Head, points: list[dict[str, Any]]) -> None:
    """Raise BadInput for combinations of settings that contradict each other or cannot be tried at once."""
    from pipeline.heads.stacked import check_stackable

    for group in _groups(recipe, points):
        together = override(recipe, _apart(recipe, points[group[0]]))
        together.check()
        if isinstance(together, NetworkHead):
            check_stackable(together)


def points_of(space: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return every combination of a space; the last axis varies fastest."""
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def layers_of(recipe: Head, space: dict[str, tuple[Any, ...]]) -> tuple[str, ...]:
    """Return all layers that a sweep reads, each once, in the order in which they are named."""
    return tuple(dict.fromkeys(layer for layers in space.get("layers", (recipe.layers,)) for layer in layers))


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
    for group in _groups(recipe, points):
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


def _groups(recipe: Head, points: list[dict[str, Any]]) -> list[list[int]]:
    """Return the numbers of the points that one computation tries together."""
    groups: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        groups.setdefault(repr(_apart(recipe, point)), []).append(number)
    return list(groups.values())


def _apart(recipe: Head, point: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a point that need a computation of their own."""
    if not isinstance(recipe, NetworkHead):
        return {name: value for name, value in point.items() if name == "layers"}
    from pipeline.heads.stacked import STACKED

    return {name: value for name, value in point.items() if name not in (*STACKED, "layers")}


def _answers(
    recipe: Head, points: list[dict[str, Any]], read: Reader, precision: str, progress: Progress
) -> tuple[HeadData, list[np.ndarray]]:
    """Return the data and each point's answers (V, n, C) on val."""
    recipe = override(recipe, _apart(recipe, points[0]))
    if isinstance(recipe, NetworkHead) and len({point.get("layers") for point in points}) > 1:
        return _masked_answers(recipe, points, read, precision, progress)
    data = read(points[0].get("layers", recipe.layers))
    module = importlib.import_module(recipe.module)
    return data, module.answers(recipe, points, data, precision=precision, progress=progress)


def _masked_answers(
    recipe: NetworkHead, points: list[dict[str, Any]], read: Reader, precision: str, progress: Progress
) -> tuple[HeadData, list[np.ndarray]]:
    """Return the same where heads see different layers: all are read, each head has a mask of its own."""
    import numpy as np

    from pipeline.heads.stacked import train_stack

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
    import numpy as np

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
