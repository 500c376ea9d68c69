"""Text from outside, such as names of files, as it can be shown anywhere."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """Return text without characters that could steer a terminal or break a line; they are spelled out."""
    return "".join(one if _is_shown(one) else ascii(one)[1:-1] for one in text)


def _is_shown(one: str) -> bool:
    return one.isprintable() or unicodedata.category(one) == "Zs"  # spaces of every width
