"""The picture of a sweep: val accuracy over each setting that was searched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.formatting import format_value
from pipeline.report.drawing import BLUE, ORANGE, empty_figure, heat_map, say_instead

PANEL_WIDTH, PANEL_HEIGHT = 4.4, 4.2  # inches


LONGEST_TICK = 14  # letters; longer ones are turned


MOST_TICKS = 12


def draw_sweep(table: pd.DataFrame, axes: list[str], title: str, caption: str) -> Figure:
    """Draw a panel for each searched setting: every trial a dot, the best of each value joined by a line.

    table is that of a sweep, best first. With two settings a further panel shows both at once.
    """
    shown_axes = [name for name in axes if table[name].nunique() > 1] or axes[:1]
    both = len(shown_axes) == 2
    count = max(1, len(shown_axes) + both)
    best = format_value(table["val_accuracy"].iloc[0], "%")
    heading = f"Sweep of {title}: best on val {best}"
    width = max(7.0, PANEL_WIDTH * count)
    figure = empty_figure(caption, width=width, height=PANEL_HEIGHT, title=heading)
    panels = figure.subplots(1, count, squeeze=False)[0]
    if not shown_axes:
        say_instead(panels[0], f"nothing to choose: {best} on val")
    for panel, name in zip(panels, shown_axes, strict=False):
        _draw_axis(panel, table, name)
    if both:
        _draw_both(panels[-1], table, *shown_axes)
    return figure


def _draw_axis(panel: Axes, table: pd.DataFrame, name: str) -> None:
    places = {value: place for place, value in enumerate(sorted(table[name].unique(), key=_axis_order))}
    x, y = table[name].map(places), 100 * table["val_accuracy"]
    panel.plot(x, y, "o", color=BLUE, alpha=0.35, markersize=4, label="a trial")
    panel.plot(y.groupby(x).max(), color=BLUE, label="best of a value")
    panel.plot(x.iloc[0], y.iloc[0], "D", color=ORANGE, markersize=8, label="chosen", zorder=5)
    panel.set(xlabel=name, ylabel="accuracy on val, %")
    _set_ticks(panel.set_xticks, list(places), turned=True)
    panel.legend(loc="best", fontsize=8)


def _draw_both(panel: Axes, table: pd.DataFrame, down: str, across: str) -> None:
    grid = 100 * table.pivot(index=down, columns=across, values="val_accuracy")
    rows, columns = (sorted(labels, key=_axis_order) for labels in (grid.index, grid.columns))
    grid = grid.loc[rows, columns]
    bar = {"shrink": 0.9, "extend": "min", "label": "accuracy on val, % (best 15 points)"}
    heat_map(panel, grid, bar, aspect="auto", vmin=max(grid.min().min(), grid.max().max() - 15))
    _set_ticks(panel.set_yticks, rows, turned=False)
    _set_ticks(panel.set_xticks, columns, turned=True)
    panel.set(xlabel=across, ylabel=down)
    chosen = table.iloc[0]
    panel.plot(columns.index(chosen[across]), rows.index(chosen[down]), "D", color=ORANGE, markersize=8)


def _set_ticks(set_ticks: Callable[..., Any], values: list[Any], *, turned: bool) -> None:
    step = -(-len(values) // MOST_TICKS)
    names = [_tick_name(value) for value in values[::step]]
    style: dict[str, Any] = {"fontsize": 8}
    if turned and (len(names) > 6 or max(map(len, names)) > LONGEST_TICK):
        style |= {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    set_ticks(range(0, len(values), step), names, **style)


def _tick_name(value: Any) -> str:
    if not isinstance(value, str):
        return f"{value:g}"
    return value.replace("block", "").replace("_pool", "").replace(",", "+") if "block" in value else value


def _axis_order(value: Any) -> tuple[Any, ...]:
    return (1, str(value)) if isinstance(value, str) else (0, value)
