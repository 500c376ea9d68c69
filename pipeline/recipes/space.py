"""Search spaces: which settings of a recipe are searched, and where.

An axis is a range of numbers or a list of values. On the command line a space is a JSON object:

    {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, "filters": ["16,32", [32, 64]], "dropout": []}

An empty list takes an axis of the recipe's own space away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadInput
from pipeline.recipes.settings import checked_all, fields_of, parse, plain

FIXED = ("label_budget", "stretch", "fit_on")  # all trials learn from the same images
EXPECTED = 'expected {"low": …, "high": …} with "log" or "step" where wanted, or a list of values'


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; log draws them evenly by their logarithm, step rounds."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]


Axis = Range | Choice


def checked_axes(recipe: Any, space: Mapping[str, Any]) -> dict[str, Axis]:
    """Return the axes to search: those of the recipe, replaced or added to by space. Raises BadInput."""
    given = {name: wanted for name, wanted in space.items() if wanted not in ([], ())}
    found = {name: axis for name, axis in recipe.space.items() if name in given or name not in space}
    found |= {name: _read(recipe, name, wanted) for name, wanted in given.items()}
    for name, axis in found.items():
        _check(recipe, name, axis)
    if not found:
        raise bad_space(recipe, "expected at least one setting to search, received none")
    return found


def read_axes(recipe: Any, space: Mapping[str, Any]) -> dict[str, Axis]:
    """Return the axes that plain_axes wrote, those and no others."""
    return checked_axes(recipe, {**dict.fromkeys(recipe.space, ()), **space})


def plain_axes(axes: Mapping[str, Axis]) -> dict[str, Any]:
    """Return axes as JSON has them; read_axes reads them back."""
    return {
        name: plain(axis.values) if isinstance(axis, Choice) else dataclasses.asdict(axis)
        for name, axis in axes.items()
    }


def text_of(value: Any) -> str:
    """Return the text of a value, which settings.parse reads back."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def value_of(recipe: Any, name: str, found: Any) -> Any:
    """Return a drawn value in the type of its setting: texts stand for the values of a choice."""
    return parse(_field(recipe, name), found) if isinstance(found, str) else found


def is_whole(recipe: Any, name: str) -> bool:
    """Say whether a setting takes whole numbers."""
    return _field(recipe, name).type == "int"


def bad_space(recipe: Any, words: str) -> BadInput:
    """Return the error for the space of a recipe, with what was expected and what came."""
    return BadInput(f"space of {recipe.name}: {words}")


def _read(recipe: Any, name: str, wanted: Any) -> Axis:
    if isinstance(wanted, Mapping):
        try:
            return Range(**wanted)
        except TypeError:
            raise _wrong(recipe, name, dict(wanted)) from None
    if not isinstance(wanted, (list, tuple)):
        raise _wrong(recipe, name, wanted)
    field = _field(recipe, name)
    several = field.type.startswith("tuple")
    values = [parse(field, part) if several and isinstance(part, str) else part for part in wanted]
    return Choice(tuple(dict.fromkeys(checked_all(recipe, name, values))))


def _check(recipe: Any, name: str, axis: Axis) -> None:
    if name in FIXED:
        raise bad_space(recipe, f"expected no axis {name}, which all trials share; set it beside the space")
    field = _field(recipe, name)
    if isinstance(axis, Choice):
        checked_all(recipe, name, axis.values)
        return
    ends = [axis.low, axis.high, *([] if axis.step is None else [axis.step])]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if field.type not in ("int", "float") or not numbers or not isinstance(axis.log, bool):
        raise _wrong(recipe, name, dataclasses.asdict(axis))
    if not axis.low < axis.high or (axis.log and axis.low <= 0) or (axis.step is not None and axis.step <= 0):
        limits = "above 0 where log is true, and a step above 0"
        received = dataclasses.asdict(axis)
        raise bad_space(recipe, f"expected low below high in {name}, {limits}; received {received}")
    if axis.log and axis.step is not None:
        raise bad_space(recipe, f"expected log or step in {name}, received both")
    checked_all(recipe, name, (axis.low, axis.high))


def _field(recipe: Any, name: str) -> dataclasses.Field[Any]:
    fields = fields_of(recipe)
    if name not in fields:
        raise bad_space(recipe, f"unknown setting {name!r}; expected some of {', '.join(fields)}")
    return fields[name]


def _wrong(recipe: Any, name: str, received: Any) -> BadInput:
    return bad_space(recipe, f"{EXPECTED} for {name}, received {received!r}")
