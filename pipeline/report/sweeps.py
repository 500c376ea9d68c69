"""The plot of a sweep or study: val accuracy over each setting that was searched."""

import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pipeline.formatting import format_value
from pipeline.report.drawing import BLUE, ORANGE, empty_figure, heat_map, write_placeholder

PANEL_WIDTH, PANEL_HEIGHT = 4.4, 4.2  # inches
MAX_TICK_LENGTH = 14  # characters per line
MAX_TICKS = 12
MAX_COLUMNS = 4
NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"
SKEW = 5  # numbers whose maximum is larger, relative to their median, get a log axis


def draw_sweep(table: pd.DataFrame, axes: Sequence[str], title: str, caption: str) -> Figure:
    """Draw a panel for each searched setting: a dot for each trial, a line through the best of each value.

    table is the table of a sweep, best first. A grid of two settings has another panel, a heat map of both.
    """
    varied = [name for name in axes if table[name].nunique() > 1] or axes[:1]
    both = len(varied) == 2 and len(table) == table[varied].nunique().prod()
    count = max(1, len(varied) + both)
    rows, columns = -(-count // MAX_COLUMNS), min(count, MAX_COLUMNS)
    best = format_value(table["val_accuracy"].iloc[0], "%")
    size: dict[str, Any] = {"width": max(7.0, PANEL_WIDTH * columns), "height": PANEL_HEIGHT * rows}
    figure = empty_figure(caption, **size, title=f"{title}: best val accuracy {best}")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[count:]:
        panel.set_axis_off()
    if not varied:
        write_placeholder(panels[0], f"nothing to search: val accuracy {best}")
    for panel, name in zip(panels, varied, strict=False):
        _draw_axis(panel, table, name)
    if both:
        _draw_both(panels[count - 1], table, *varied)
    return figure


def _draw_axis(panel: Axes, table: pd.DataFrame, name: str) -> None:
    values = sorted(table[name].unique(), key=_sort_key)
    x, y = table[name], 100 * table["val_accuracy"]
    is_drawn = len(values) > MAX_TICKS and pd.api.types.is_numeric_dtype(x)  # from a range of numbers
    if is_drawn:
        skewed = values[0] > 0 and values[-1] > SKEW * values[len(values) // 2]
        panel.set_xscale("log" if skewed else "linear")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        x = x.map(values.index)
        _set_ticks(panel.set_xticks, values, rotate=True)
    panel.plot(x, y, "o", color=BLUE, alpha=0.35, markersize=4, label="trial")
    if not is_drawn:
        panel.plot(y.groupby(x).max(), color=BLUE, label="best for each value")
    panel.plot(x.iloc[0], y.iloc[0], "D", color=ORANGE, markersize=8, label="chosen", zorder=5)
    panel.set(xlabel=name, ylabel="val accuracy, %")
    panel.legend(loc="best", fontsize=8)


def _draw_both(panel: Axes, table: pd.DataFrame, down: str, across: str) -> None:
    grid = 100 * table.pivot(index=down, columns=across, values="val_accuracy")
    rows, columns = (sorted(labels, key=_sort_key) for labels in (grid.index, grid.columns))
    grid = grid.loc[rows, columns]
    bar = {"shrink": 0.9, "extend": "min", "label": "val accuracy, % (top 15 points)"}
    heat_map(panel, grid, bar, aspect="auto", vmin=max(grid.min().min(), grid.max().max() - 15))
    _set_ticks(panel.set_yticks, rows, rotate=False)
    _set_ticks(panel.set_xticks, columns, rotate=True)
    panel.set(xlabel=across, ylabel=down)
    chosen = table.iloc[0]
    panel.plot(columns.index(chosen[across]), rows.index(chosen[down]), "D", color=ORANGE, markersize=8)


def _set_ticks(set_ticks: Callable[..., Any], values: list[Any], *, rotate: bool) -> None:
    step = -(-len(values) // MAX_TICKS)
    names = [_tick_name(value) for value in values[::step]]
    style: dict[str, Any] = {"fontsize": 8}
    if rotate and len(names) > 4:
        style |= {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    set_ticks(range(0, len(values), step), names, **style)


def _tick_name(value: Any) -> str:
    if not isinstance(value, str):
        return f"{value:g}"
    short = value.replace("block", "").replace("_pool", "").replace(",", "+") if "block" in value else value
    return textwrap.fill(short, MAX_TICK_LENGTH)


def _sort_key(value: Any) -> list[tuple[float, str]]:
    """Return the sort key of a number, or of comma-separated values: numbers by value, before words."""
    parts = str(value).split(",")
    return [(float(part), "") if re.fullmatch(NUMBER, part) else (math.inf, part) for part in parts]
