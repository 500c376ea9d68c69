"""Settings of recipes: declared as dataclass fields, parsed from text, checked, overridden.

A recipe is a frozen dataclass whose fields are made by `setting`. The same declaration gives the Luigi
parameter, its help and the check of its value.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.errors import BadInput


class _Kind(NamedTuple):
    type: type
    description: str
    is_tuple: bool = False


KINDS = {
    "int": _Kind(int, "a whole number"),
    "float": _Kind(float, "a number"),
    "bool": _Kind(bool, "true or false"),
    "str": _Kind(str, "text"),
    "tuple[int, ...]": _Kind(int, "whole numbers separated by commas", is_tuple=True),
    "tuple[str, ...]": _Kind(str, "names separated by commas", is_tuple=True),
}
# Settings that came later, with the value of all runs before. They are in keys only with another value.
ADDED_SETTINGS: dict[str, Any] = {"class_weights": "none"}
BOOLEANS = dict.fromkeys(("true", "yes", "1", "on"), True) | dict.fromkeys(("false", "no", "0", "off"), False)


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Return a dataclass field with its help and valid values: low to high, or one of choices."""
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices}
    )


def fields_of(recipe: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the settings of a recipe by name; name and title are not settings."""
    return {field.name: field for field in dataclasses.fields(recipe) if field.metadata}


def describe(field: dataclasses.Field[Any]) -> str:
    """Return the command-line help of a setting, with its range or choices."""
    limits = field.metadata
    valid = f"one of {', '.join(limits['choices'])}" if limits["choices"] else _range(limits)
    return f"{limits['help']}; {valid}" if valid else limits["help"]


def parse(field: dataclasses.Field[Any], text: str) -> Any:
    """Parse text into a setting's value: numbers, true/false, or names separated by commas.

    Raises BadInput with the setting, its valid values and text.
    """
    kind = _kind(field)
    value: Any
    try:
        if kind.is_tuple:
            value = tuple(kind.type(part.strip()) for part in text.split(",") if part.strip())
        else:
            value = BOOLEANS[text.lower()] if kind.type is bool else kind.type(text)
    except (ValueError, KeyError):
        raise _invalid(field, text) from None
    return checked(field, value)


def checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return value in the field's type; raise BadInput if it is not valid."""
    kind = _kind(field)
    parts = value if kind.is_tuple else [value]
    if not isinstance(parts, (list, tuple)) or not all(_is_valid(field, part) for part in parts):
        raise _invalid(field, value)
    converted = tuple(float(part) if kind.type is float else part for part in parts)
    return converted if kind.is_tuple else converted[0]


def checked_all(recipe: Any, name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return values of one setting in its type, each once; those of a tuple can be text. Raises BadInput."""
    field, unique = field_of(recipe, name), dict[Any, None]()
    for value in values:
        is_text = _kind(field).is_tuple and isinstance(value, str)
        unique[parse(field, value) if is_text else checked(field, value)] = None
    return tuple(unique)


def field_of(recipe: Any, name: str) -> dataclasses.Field[Any]:
    """Return a setting of a recipe by its name; raise BadInput, which lists all names, for an unknown one."""
    fields = fields_of(recipe)
    if name not in fields:
        expected = f"expected one of {', '.join(fields)}"
        raise BadInput(f"unknown setting {name!r} for {type(recipe).__name__}: {expected}")
    return fields[name]


def override(recipe: Any, overrides: dict[str, Any]) -> Any:
    """Return recipe with settings replaced; raise BadInput if a setting is unknown or a value is invalid."""
    changes = {name: checked(field_of(recipe, name), value) for name, value in overrides.items()}
    return dataclasses.replace(recipe, **changes)


def as_dict(recipe: Any) -> dict[str, Any]:
    """Return the settings of a recipe as JSON values."""
    return {name: plain(getattr(recipe, name)) for name in fields_of(recipe)}


def in_keys(recipe: Any) -> dict[str, Any]:
    """Return the settings of a recipe that are stored with its results and are part of their keys."""
    return {name: value for name, value in as_dict(recipe).items() if ADDED_SETTINGS.get(name) != value}


def plain(value: Any) -> Any:
    """Return a value as JSON has it: mappings as dicts, sequences as lists."""
    if hasattr(value, "items"):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def kind_name(field: dataclasses.Field[Any]) -> str:
    """Return the type of a setting as text, such as int or tuple[str, ...]."""
    kind = field.type  # a string in modules that postpone annotations
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _kind(field: dataclasses.Field[Any]) -> _Kind:
    return KINDS[kind_name(field)]


def _is_valid(field: dataclasses.Field[Any], part: Any) -> bool:
    kind, limits = _kind(field).type, field.metadata
    return (
        isinstance(part, (int, float) if kind is float else kind)
        and isinstance(part, bool) == (kind is bool)
        and (limits["low"] is None or part >= limits["low"])
        and (limits["high"] is None or part <= limits["high"])
        and (not limits["choices"] or part in limits["choices"])
    )


def _invalid(field: dataclasses.Field[Any], received: Any) -> BadInput:
    limits = field.metadata
    expected = f"one of {', '.join(limits['choices'])}" if limits["choices"] else _kind(field).description
    expected = f"{expected} {_range(limits)}".strip()
    return BadInput(f"setting {field.name}: expected {expected}, received {received!r}")


def _range(limits: Mapping[str, Any]) -> str:
    low, high = limits["low"], limits["high"]
    if low is None and high is None:
        return ""
    if low is not None and high is not None:
        return f"from {low} to {high}"
    return f"of {low} or more" if low is not None else f"of {high} or less"
