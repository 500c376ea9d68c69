"""What a result depends on, as one nested dict of plain values, and the key that stands for it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

KEY_LENGTH = 12  # 48 bits: a collision among a million entries has a chance below one in 500


def canonical(fingerprint: Any) -> str:
    """Return fingerprint as JSON whose text does not depend on the order of keys.

    Raises TypeError for values that JSON does not know and ValueError for NaN or infinity.
    """
    return json.dumps(fingerprint, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(fingerprint: Any) -> str:
    """Return the first 12 hex digits of the sha256 of the canonical text."""
    return hashlib.sha256(canonical(fingerprint).encode()).hexdigest()[:KEY_LENGTH]


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
