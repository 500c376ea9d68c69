"""The pictures of an atlas: accuracy and cost by depth, and the accuracy of each class by depth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.formatting import format_duration
from pipeline.report import drawing
from pipeline.report.atlas.layer_sets import LOGISTIC, NEIGHBOURS, short_name

MARKS: dict[str, dict[str, Any]] = {
    LOGISTIC: {"color": drawing.BLUE, "marker": "o", "label": "logistic regression"},
    NEIGHBOURS: {"color": drawing.GREEN, "marker": "s", "label": "nearest neighbours"},
}
ON_VAL: dict[str, Any] = {"marker": "_", "markersize": 13, "markeredgewidth": 1.4, "color": drawing.GREY}
ANNOTATED_CLASSES = 20  # beyond this, numbers in the cells cannot be read


def draw_depth(table: pd.DataFrame, freeze_through: int, caption: str) -> Figure:
    """Draw test accuracy with 95 % intervals against depth, joins beside, and the cost up to there below."""
    figure = drawing.empty_figure(caption, width=10.5, height=7.2)
    joins = table["blocks"].str.contains("+", regex=False)
    parts = [table[~joins], table[joins]]
    widths = [max(1, part["blocks"].nunique()) for part in parts]
    panels = figure.subplots(2, 2, sharex="col", sharey="row", width_ratios=widths, height_ratios=[2.3, 1])
    for (accuracy, cost), part, line in zip(panels.T, parts, ("-", "none"), strict=True):
        names = part["blocks"].drop_duplicates().tolist()
        _draw_accuracy(accuracy, part, names, line)
        _draw_cost(cost, part.drop_duplicates("blocks"))
        cost.set_xticks(range(len(names)), [short_name(name) for name in names])
        cost.set_xlim(-0.6, len(names) - 0.4)
    (alone, joined), (alone_cost, joined_cost) = panels
    border = freeze_through - 0.5  # blocks are drawn from 0 on
    alone.axvline(border, color=drawing.ORANGE, linewidth=1.4, linestyle="--")
    drawing.write_above(alone, border, "◂ frozen | moves ▸", color=drawing.ORANGE)
    alone.set_title("Layer atlas: accuracy by depth", pad=24)
    joined.set_title("Joins of neighbouring blocks", pad=24)
    alone.set_ylabel("accuracy on test, % (95 % Wilson interval)")
    alone_cost.set(ylabel="multiply-adds up to\nthe deepest block, %", xlabel="block alone")
    joined_cost.set_xlabel("blocks joined")
    joined.legend(loc="lower right", fontsize=9)
    return figure


def _draw_accuracy(axes: Axes, part: pd.DataFrame, names: list[str], line: str) -> None:
    for head, marks in MARKS.items():
        rows = part[part["head"] == head].set_index("blocks").loc[names]
        style, errors = (
            {**drawing.POINTS, "linestyle": line, **marks},
            drawing.error_bars(rows, "test_accuracy"),
        )
        axes.errorbar(range(len(names)), 100 * rows["test_accuracy"], yerr=errors, **style)
        label = "the same on val" if head == NEIGHBOURS else None
        axes.plot(range(len(names)), 100 * rows["val_accuracy"], linestyle="none", label=label, **ON_VAL)


def _draw_cost(axes: Axes, rows: pd.DataFrame) -> None:
    bars = axes.bar(range(len(rows)), 100 * rows["multiply_adds_share"], width=0.62, **drawing.BARS)
    costs = zip(rows["extract_seconds"], rows["extract_seconds_measured"], strict=True)
    words = [f"{'' if measured else '≈ '}{format_duration(seconds)}" for seconds, measured in costs]
    axes.bar_label(bars, words, padding=1, fontsize=8)
    axes.set(ylim=(0, 120), yticks=range(0, 101, 25))


def draw_classes(classes: pd.DataFrame, caption: str) -> Figure:
    """Draw the test accuracy of each class for each layer set under logistic regression, in per cent."""
    rows = classes[classes["head"] == LOGISTIC]
    columns = rows["blocks"].drop_duplicates().tolist()
    grid = 100 * rows.pivot(index="class", columns="blocks", values="test_accuracy")[columns]
    grid = grid.loc[rows["class"].drop_duplicates()]
    shares = grid.to_numpy()
    height = 2.4 + max(0.14 * len(grid), min(0.36 * len(grid), 7.2))
    figure, axes = drawing.new_figure(caption, width=10.5, height=height)
    low, high = 10 * math.floor(shares.min() / 10), 10 * math.ceil(shares.max() / 10)
    bar = {"pad": 0.02, "aspect": 24, "format": "{x:g} %"}
    scale: dict[str, Any] = {"vmin": low, "vmax": max(high, low + 10)}
    image = drawing.heat_map(axes, shares, bar, aspect="auto", interpolation="nearest", **scale)
    axes.set_title("Layer atlas: accuracy of each class by depth, logistic regression on test")
    axes.set_xticks(range(len(columns)), [short_name(name) for name in columns])
    axes.set_xlabel("block alone (framed where a class is best)   |   blocks joined")
    step = math.ceil(len(grid) / drawing.NAMED_CLASSES)
    axes.set_yticks(range(0, len(grid), step), [drawing.short(name) for name in grid.index[::step]])
    axes.tick_params(length=0)
    alone = sum("+" not in name for name in columns)
    axes.axvline(alone - 0.5, color="white", linewidth=5)
    if len(grid) <= ANNOTATED_CLASSES:
        for (row, column), share in np.ndenumerate(shares):
            ink = drawing.readable_on(image.to_rgba(share))
            axes.text(column, row, f"{share:.0f}", color=ink, fontsize=9, **drawing.CENTRED)
    frame: dict[str, Any] = {"fill": False, "edgecolor": drawing.ORANGE, "linewidth": 1.6}
    for row, column in enumerate(shares[:, :alone].argmax(axis=1)):
        axes.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, **frame))
    return figure
