"""Settings of recipes: declared once as dataclass fields, read from text, checked, overridden.

A recipe is a frozen dataclass whose fields are made by `setting`. The same declaration gives a Luigi
parameter, its help, and the check of its value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import BadInput

KINDS = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "tuple[int, ...]": int,
    "tuple[str, ...]": str,
}
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


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


def describe(field: dataclasses.Field[Any]) -> str:
    """Return the help of a setting, with its range, for the command line."""
    limits = field.metadata
    if limits["choices"]:
        return f"{limits['help']}; one of {', '.join(limits['choices'])}"
    if limits["low"] is not None or limits["high"] is not None:
        return f"{limits['help']}; {_range(limits)}"
    return limits["help"]


def parse(field: dataclasses.Field[Any], text: str) -> Any:
    """Return the value that text stands for: numbers, true/false, or names separated by commas.

    Raises BadInput that names the setting, what it takes and what came.
    """
    kind = KINDS[_written(field)]
    value: Any
    try:
        if _written(field).startswith("tuple"):
            value = tuple(kind(part.strip()) for part in text.split(",") if part.strip())
        elif kind is bool:
            value = _truth(text)
        else:
            value = kind(text)
    except ValueError:
        raise _wrong(field, text) from None
    return checked(field, value)


def checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return value in the field's type; raise BadInput when the setting does not take it."""
    kind = KINDS[_written(field)]
    if _written(field).startswith("tuple"):
        if not isinstance(value, (list, tuple)):
            raise _wrong(field, value)
        return tuple(_checked_one(field, kind, part, value) for part in value)
    return _checked_one(field, kind, value, value)


def checked_all(recipe: Any, name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return values of one setting of recipe in its type; raise BadInput for a setting that it has not."""
    return tuple(getattr(override(recipe, {name: value}), name) for value in values)


def override(recipe: Any, overrides: dict[str, Any]) -> Any:
    """Return recipe with settings replaced; raise BadInput for a setting that it has not, or a bad value."""
    fields = {field.name: field for field in dataclasses.fields(recipe) if field.metadata}
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
    """Return the settings of a recipe as plain JSON values; its name and title are not settings."""
    values = {
        field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe) if field.metadata
    }
    return plain(values)


def plain(value: Any) -> Any:
    """Return a value of settings as JSON has it: mappings as dicts, sequences as lists."""
    if hasattr(value, "items"):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _written(field: dataclasses.Field[Any]) -> str:
    """Return the annotation of a setting, which is text in modules that postpone annotations."""
    assert isinstance(field.type, str)
    return field.type


def _checked_one(field: dataclasses.Field[Any], kind: type, part: Any, value: Any) -> Any:
    number = kind is float and isinstance(part, int) and not isinstance(part, bool)
    if not (number or (isinstance(part, kind) and isinstance(part, bool) == (kind is bool))):
        raise _wrong(field, value)
    limits = field.metadata
    outside = (limits["low"] is not None and not part >= limits["low"]) or (
        limits["high"] is not None and not part <= limits["high"]
    )
    if outside or (limits["choices"] and part not in limits["choices"]):
        raise _wrong(field, value)
    return float(part) if kind is float else part


def _truth(text: str) -> bool:
    if text.lower() not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError(text)
    return text.lower() in TRUE_WORDS


def _wrong(field: dataclasses.Field[Any], received: Any) -> BadInput:
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
    words |= {"tuple[int, ...]": "whole numbers separated by commas", "tuple[str, ...]": "names"}
    limits = field.metadata
    expected = f"one of {', '.join(limits['choices'])}" if limits["choices"] else words[_written(field)]
    if limits["low"] is not None or limits["high"] is not None:
        expected += f" {_range(limits)}"
    return BadInput(f"setting {field.name}: expected {expected}, received {received!r}")


def _range(limits: Mapping[str, Any]) -> str:
    low, high = limits["low"], limits["high"]
    if low is not None and high is not None:
        return f"from {low} to {high}"
    return f"of {low} or more" if low is not None else f"of {high} or less"
