"""Search spaces: the settings of a recipe to search, and their values.

An axis is a range of numbers or a list of values. On the command line a space is a JSON object:

    {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, "filters": ["16,32", [32, 64]], "dropout": []}

An empty list removes an axis of the recipe's own space.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadInput
from pipeline.recipes.settings import checked_all, field_of, kind_name, plain

SHARED_BY_TRIALS = ("label_budget", "stretch", "fit_on")  # all trials train on the same images
EXPECTED = 'expected {"low": …, "high": …} with optional "log" or "step", or a list of values'


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, inclusive; log samples on a log scale, step samples low, low + step, …."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


Axis = Range | tuple[Any, ...]


def checked_axes(recipe: Any, space: Mapping[str, Any]) -> dict[str, Axis]:
    """Return the axes to search: the recipe's own, updated by space. Raises BadInput."""
    changes = {name: values for name, values in space.items() if values not in ([], ())}
    axes = {name: axis for name, axis in recipe.space.items() if name in changes or name not in space}
    axes |= {name: _read(recipe, name, values) for name, values in changes.items()}
    for name, axis in axes.items():
        _check(recipe, name, axis)
    if not axes:
        raise bad_space(recipe, "expected at least one setting to search, received none")
    return axes


def read_axes(recipe: Any, space: Mapping[str, Any]) -> dict[str, Axis]:
    """Return exactly the axes that plain_axes wrote."""
    return checked_axes(recipe, {**dict.fromkeys(recipe.space, ()), **space})


def plain_axes(axes: Mapping[str, Axis]) -> dict[str, Any]:
    """Return axes as JSON values; read_axes reads them back."""
    return {
        name: plain(axis) if isinstance(axis, tuple) else dataclasses.asdict(axis)
        for name, axis in axes.items()
    }


def text_of(value: Any) -> str:
    """Return a value as text; settings.parse reads it back."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def bad_space(recipe: Any, message: str) -> BadInput:
    """Return the error for the space of a recipe; message says what was expected and received."""
    return BadInput(f"space of {recipe.name}: {message}")


def _read(recipe: Any, name: str, axis: Any) -> Axis:
    if isinstance(axis, Mapping):
        try:
            return Range(**axis)
        except TypeError:
            raise _invalid(recipe, name, dict(axis)) from None
    if not isinstance(axis, (list, tuple)):
        raise _invalid(recipe, name, axis)
    return checked_all(recipe, name, axis)


def _check(recipe: Any, name: str, axis: Axis) -> None:
    if name in SHARED_BY_TRIALS:
        raise bad_space(recipe, f"{name} is the same in all trials; set it outside the space")
    field = field_of(recipe, name)
    if isinstance(axis, tuple):
        checked_all(recipe, name, axis)
        return
    ends = [axis.low, axis.high, *([] if axis.step is None else [axis.step])]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if kind_name(field) not in ("int", "float") or not numbers or not isinstance(axis.log, bool):
        raise _invalid(recipe, name, dataclasses.asdict(axis))
    if not axis.low < axis.high or (axis.log and axis.low <= 0) or (axis.step is not None and axis.step <= 0):
        expected = "low below high, low above 0 if log is true, and step above 0"
        raise bad_space(recipe, f"expected {expected} in {name}, received {dataclasses.asdict(axis)}")
    if axis.log and axis.step is not None:
        raise bad_space(recipe, f"expected log or step in {name}, received both")
    checked_all(recipe, name, (axis.low, axis.high))


def _invalid(recipe: Any, name: str, received: Any) -> BadInput:
    return bad_space(recipe, f"{EXPECTED} for {name}, received {received!r}")
