"""What a result depends on, as one nested dict of plain values, and the key that stands for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

KEY_LENGTH = 12  # 48 bits: a collision among a million entries has a chance below one in 500
LONGEST_WORDS = 80  # letters of a value in a sentence about it
ABSENT = object()  # what a fingerprint has where another one has a field


def canonical(fingerprint: Any) -> str:
    """Return fingerprint as JSON whose text does not depend on the order of keys.

    Raises TypeError for values that JSON does not know and ValueError for NaN or infinity.
    """
    return json.dumps(fingerprint, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(fingerprint: Any) -> str:
    """Return the first 12 hex digits of the sha256 of the canonical text."""
    return digest_of_values(fingerprint)[:KEY_LENGTH]


def digest_of_values(values: Any) -> str:
    """Return the sha256 of the canonical text of plain values as 64 hex digits."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def first_difference(have: Any, want: Any, path: str = "") -> str | None:
    """Return in words the first field in which two fingerprints differ, or None when they are equal.

    >>> first_difference({"weights": {"name": "hed"}}, {"weights": {"name": "imagenet"}})
    "weights.name: 'hed', wanted 'imagenet'"
    """
    if isinstance(have, dict) and isinstance(want, dict):
        for field in sorted(have.keys() | want.keys()):
            here = f"{path}.{field}" if path else field
            if field not in have:
                return f"{here}: missing, wanted {want[field]!r}"
            if field not in want:
                return f"{here}: {have[field]!r}, not wanted"
            difference = first_difference(have[field], want[field], here)
            if difference:
                return difference
        return None
    if canonical(have) == canonical(want):
        return None
    return f"{path}: {have!r}, wanted {want!r}"


def differences(have: Any, want: Any) -> list[str]:
    """Return in words all fields in which two fingerprints differ; those that say most come first.

    Outer fields come before inner ones, a name before what only identifies it. Fields of dicts and of
    dicts in lists count one by one; any other list is one field.

    >>> differences({"weights": {"name": "hed"}, "size": 32}, {"weights": {"name": "imagenet"}, "size": 64})
    ['size: 32, wanted 64', 'weights.name: hed, wanted imagenet']
    """
    ours, theirs = dict(_fields(have)), dict(_fields(want))
    paths = sorted(ours.keys() | theirs.keys(), key=_by_weight)
    return [
        f"{'.'.join(path)}: {said(ours.get(path, ABSENT))}, wanted {said(theirs.get(path, ABSENT))}"
        for path in paths
        if path not in ours or path not in theirs or canonical(ours[path]) != canonical(theirs[path])
    ]


def said(value: Any) -> str:
    """Return a plain value as people write it: texts without quotes, lists by commas, ABSENT as nothing."""
    if value is ABSENT:
        return "nothing"
    if isinstance(value, (list, tuple)) and value and not any(isinstance(part, dict) for part in value):
        return ", ".join(map(said, value))
    text = value if isinstance(value, str) and value.strip() else json.dumps(value)
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"


def fields(fingerprint: Any) -> list[tuple[str, Any]]:
    """Return the fields of a fingerprint as (dotted path, value); those that say most come first."""
    found = dict(_fields(fingerprint))
    return [(".".join(path), found[path]) for path in sorted(found, key=_by_weight)]


def _fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    listed = isinstance(value, (list, tuple)) and any(isinstance(part, dict) for part in value)
    inner = enumerate(value) if listed else value.items() if isinstance(value, dict) else ()
    if not (isinstance(value, dict) or listed) or not value:
        yield path, value
    for step, part in inner:
        yield from _fields(part, (*path, str(step)))


def _by_weight(path: tuple[str, ...]) -> tuple[int, list[tuple[int, str]]]:
    """Return what sorts fields: outer ones first, then names, what can be chosen, what follows from it."""
    ranks = {"name": 0, "scheme": 0, "identity": 2, "source": 2}
    return len(path), [(ranks.get(step, 1), step) for step in path]
