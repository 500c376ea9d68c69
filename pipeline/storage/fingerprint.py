"""Fingerprints: everything a result depends on, as a nested dict of plain values, and its key."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

KEY_LENGTH = 12  # 48 bits: a collision among a million entries has a chance below one in 500
MAX_VALUE_LENGTH = 80  # characters of a value in a message
ABSENT = object()  # the value of a field that only the other fingerprint has


def canonical(fingerprint: Any) -> str:
    """Return fingerprint as JSON text that does not depend on the order of keys.

    Raises TypeError for values that JSON does not support and ValueError for NaN or infinity.
    """
    return json.dumps(fingerprint, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(fingerprint: Any) -> str:
    """Return the first 12 hex digits of the sha256 of the canonical text."""
    return digest_of_values(fingerprint)[:KEY_LENGTH]


def digest_of_values(values: Any) -> str:
    """Return the sha256 of the canonical text of plain values as 64 hex digits."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def differences(actual: Any, expected: Any) -> list[str]:
    """Return a message on each field in which two fingerprints differ, the most informative ones first.

    Outer fields come before inner ones, names before sources. Fields of dicts and of dicts in lists count
    one by one; any other list is one field.

    >>> differences({"split": {"seed": 0}, "size": 32}, {"split": {"seed": 1}, "size": 64})
    ['size: 32, expected 64', 'split.seed: 0, expected 1']
    """
    ours, theirs = dict(_fields(actual)), dict(_fields(expected))
    return [
        f"{'.'.join(path)}: {format_field(ours.get(path, ABSENT))}, "
        f"expected {format_field(theirs.get(path, ABSENT))}"
        for path in sorted(ours.keys() | theirs.keys(), key=_field_order)
        if path not in ours or path not in theirs or canonical(ours[path]) != canonical(theirs[path])
    ]


def format_field(value: Any) -> str:
    """Return a plain value as text: strings without quotes, lists separated by commas, ABSENT as nothing."""
    if value is ABSENT:
        return "nothing"
    if isinstance(value, (list, tuple)) and value and not any(isinstance(part, dict) for part in value):
        return ", ".join(map(format_field, value))
    text = value if isinstance(value, str) and value.strip() else json.dumps(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"


def fields(fingerprint: Any) -> list[tuple[str, Any]]:
    """Return the fields of a fingerprint as (dotted path, value), the most informative ones first."""
    values = dict(_fields(fingerprint))
    return [(".".join(path), values[path]) for path in sorted(values, key=_field_order)]


def _fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    has_dicts = isinstance(value, (list, tuple)) and any(isinstance(part, dict) for part in value)
    inner = enumerate(value) if has_dicts else value.items() if isinstance(value, dict) else ()
    if not (isinstance(value, dict) or has_dicts) or not value:
        yield path, value
    for step, part in inner:
        yield from _fields(part, (*path, str(step)))


def _field_order(path: tuple[str, ...]) -> tuple[int, list[tuple[int, str]]]:
    """Return a sort key: outer fields first, then names, settings, and values derived from them."""
    ranks = {"name": 0, "scheme": 0, "source": 2}
    return len(path), [(ranks.get(step, 1), step) for step in path]
