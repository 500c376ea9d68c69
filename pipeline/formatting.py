"""Format durations, sizes, numbers and tables for people, and make any text safe to print."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.errors import BadInput


def printable(text: str, kept: str = "") -> str:
    """Return text with characters that could control a terminal or break a line, but kept ones, escaped."""
    kept += "".join(char for char in text if unicodedata.category(char) == "Zs")  # spaces of any width
    return "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)


def cell_of(value: Any) -> Any:
    """Return a cell of a CSV file: text that a spreadsheet would compute gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(tuple("=+-@＝＋－＠")) else value


def format_duration(seconds: float) -> str:
    """Return a duration as text: "0.25 s", "3.4 s", "2 min 05 s", "1 h 05 min"."""
    if round(seconds, 2) < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def format_count(count: int) -> str:
    """Return a number of parameters as text: "990", "12.8 k", "14.7 M"."""
    if count < 1000:
        return str(count)
    # 999,950 and above would round to 1000.0 k.
    return f"{count / 1e3:.1f} k" if count < 999_950 else f"{count / 1e6:.1f} M"


def format_bytes(count: float) -> str:
    """Return a size as text, in units of 1,000: "999 B", "12.3 MB", "123 MB"."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count, units = count / 1000, units[1:]
    rounded = units[0] == "B" or count >= 99.95
    return f"{count:.0f} {units[0]}" if rounded else f"{count:.1f} {units[0]}"


def parse_bytes(text: str) -> int:
    """Return the bytes in a text such as "20GB" or "500 MB", in units of 1,000; raise BadInput."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B\s*", text, re.IGNORECASE)
    if not match:
        raise BadInput(f"{text!r}: expected a size such as 20GB or 500MB")
    return round(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " "))


def describe_data(title: str, note: str, counts: Mapping[str, int]) -> str:
    """Return a description of a data set with the sizes of its splits; the note marks demonstrations."""
    sizes = " / ".join(f"{counts[split]:,} {split}" for split in ("train", "val", "test"))
    return f"{': '.join(part for part in (title, note) if part)} ({sizes})"


def describe_sizes(recipe: Mapping[str, Any]) -> str:
    """Return the pixels per side of images and of a network's input: "images 32 px, input 96 px"."""
    return f"images {recipe['image_size']} px, input {recipe['input_size']} px"


def pluralize(count: int, noun: str) -> str:
    """Return a number with its noun: "1 task", "2 tasks", "3 entries"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def align_columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns, two spaces apart; the last column is not padded."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: first column left-aligned, others right-aligned, pipes escaped."""
    rule = ["---", *("---:" for _ in header[1:])]
    escaped = ([str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows))
    first, *others = ("| " + " | ".join(row) + " |" for row in escaped)
    return "\n".join([first, "| " + " | ".join(rule) + " |", *others])


def format_value(value: float, unit: str) -> str:
    """Return a value with its unit: "61.2 %", "0.412 nats", "1,000" for a count, "–" for NaN."""
    if math.isnan(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "count":
        return f"{value:,.0f}"
    return f"{value:.3f} {unit}".strip()


def format_interval(value: float, low: float, high: float, unit: str = "%") -> str:
    """Return a share with its interval, "61.2 % (60.2–62.1)"; without the interval if low is NaN."""
    if math.isnan(low):
        return format_value(value, unit)
    return f"{100 * value:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def format_share(row: Any, name: str) -> str:
    """Return the share in a row's column `name` with its interval from `name_low` and `name_high`."""
    return format_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def format_points(difference: float) -> str:
    """Return a difference of fractions in points with its sign: "+1.2", "−0.4", "0.0"."""
    points = f"{abs(100 * difference):.1f}"
    if float(points) == 0:
        return points
    return f"{'+' if difference > 0 else '−'}{points}"


def format_ci(low: float, high: float) -> str:
    """Return a confidence interval of a difference in points: "0.4 to 2.0", "−0.3 to 0.5"."""
    return " to ".join(format_points(end).removeprefix("+") for end in (low, high))


def format_p(p: float) -> str:
    """Return a formatted p-value: "< 0.001", "= 0.012", "= 1.000"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def join_names(names: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
