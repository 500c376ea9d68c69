"""Settings of recipes: declared once as dataclass fields, read from text, checked, overridden.

A recipe is a frozen dataclass whose fields are made by `setting`. The same declaration gives a Luigi
parameter, its help, and the check of its value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from pipeline.errors import BadInput


class _Kind(NamedTuple):
    type: type
    words: str
    several: bool = False


KINDS = {
    "int": _Kind(int, "a whole number"),
    "float": _Kind(float, "a number"),
    "bool": _Kind(bool, "true or false"),
    "str": _Kind(str, "a text"),
    "tuple[int, ...]": _Kind(int, "whole numbers separated by commas", several=True),
    "tuple[str, ...]": _Kind(str, "names", several=True),
}
TRUTH = dict.fromkeys(("true", "yes", "1", "on"), True) | dict.fromkeys(("false", "no", "0", "off"), False)


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Return a dataclass field with its help and the values that it takes: low … high, or one of choices."""
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices}
    )


def fields_of(recipe: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the settings of a recipe by name; its name and title are none."""
    return {field.name: field for field in dataclasses.fields(recipe) if field.metadata}


def describe(field: dataclasses.Field[Any]) -> str:
    """Return the help of a setting, with its range, for the command line."""
    limits = field.metadata
    taken = f"one of {', '.join(limits['choices'])}" if limits["choices"] else _range(limits)
    return f"{limits['help']}; {taken}" if taken else limits["help"]


def parse(field: dataclasses.Field[Any], text: str) -> Any:
    """Return the value that text stands for: numbers, true/false, or names separated by commas.

    Raises BadInput that names the setting, what it takes and what came.
    """
    kind = _kind(field)
    value: Any
    try:
        if kind.several:
            value = tuple(kind.type(part.strip()) for part in text.split(",") if part.strip())
        else:
            value = TRUTH[text.lower()] if kind.type is bool else kind.type(text)
    except (ValueError, KeyError):
        raise _wrong(field, text) from None
    return checked(field, value)


def checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return value in the field's type; raise BadInput when the setting does not take it."""
    kind = _kind(field)
    parts = value if kind.several else [value]
    if not isinstance(parts, (list, tuple)) or not all(_takes(field, part) for part in parts):
        raise _wrong(field, value)
    found = tuple(float(part) if kind.type is float else part for part in parts)
    return found if kind.several else found[0]


def checked_all(recipe: Any, name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return values of one setting of recipe in its type; raise BadInput for a setting that it has not."""
    return tuple(getattr(override(recipe, {name: value}), name) for value in values)


def override(recipe: Any, overrides: dict[str, Any]) -> Any:
    """Return recipe with settings replaced; raise BadInput for a setting that it has not, or a bad value."""
    fields = fields_of(recipe)
    unknown = sorted(set(overrides) - set(fields))
    if unknown:
        raise BadInput(
            f"unknown setting {unknown[0]!r} for {type(recipe).__name__}: "
            f"expected some of {', '.join(fields)}"
        )
    return dataclasses.replace(
        recipe, **{name: checked(fields[name], value) for name, value in overrides.items()}
    )


def as_dict(recipe: Any) -> dict[str, Any]:
    """Return the settings of a recipe as plain JSON values."""
    return {name: plain(getattr(recipe, name)) for name in fields_of(recipe)}


def plain(value: Any) -> Any:
    """Return a value of settings as JSON has it: mappings as dicts, sequences as lists."""
    if hasattr(value, "items"):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _kind(field: dataclasses.Field[Any]) -> _Kind:
    return KINDS[cast(str, field.type)]  # a text in modules that postpone annotations


def _takes(field: dataclasses.Field[Any], part: Any) -> bool:
    kind, limits = _kind(field).type, field.metadata
    return (
        isinstance(part, (int, float) if kind is float else kind)
        and isinstance(part, bool) == (kind is bool)
        and (limits["low"] is None or part >= limits["low"])
        and (limits["high"] is None or part <= limits["high"])
        and (not limits["choices"] or part in limits["choices"])
    )


def _wrong(field: dataclasses.Field[Any], received: Any) -> BadInput:
    limits = field.metadata
    expected = f"one of {', '.join(limits['choices'])}" if limits["choices"] else _kind(field).words
    expected = f"{expected} {_range(limits)}".strip()
    return BadInput(f"setting {field.name}: expected {expected}, received {received!r}")


def _range(limits: Mapping[str, Any]) -> str:
    low, high = limits["low"], limits["high"]
    if low is None and high is None:
        return ""
    if low is not None and high is not None:
        return f"from {low} to {high}"
    return f"of {low} or more" if low is not None else f"of {high} or less"
