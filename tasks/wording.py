"""Numbers, tables and foreign texts as people read them on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.wording import plain


def readable_bytes(count: float) -> str:
    """Return a size in units of 1,000: 999 B, 12.3 MB, 123 MB."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count, units = count / 1000, units[1:]
    whole = units[0] == "B" or count >= 99.95
    return f"{count:.0f} {units[0]}" if whole else f"{count:.1f} {units[0]}"


def readable_seconds(seconds: float) -> str:
    """Return a duration in the unit that suits it: under 1 s, 12 s, 4 min, 2.5 h."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 task, 2 tasks, 3 entries."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as lines whose columns begin below each other, two spaces apart; the last one is free."""
    rows = [[plain(cell) for cell in row] for row in rows]
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
