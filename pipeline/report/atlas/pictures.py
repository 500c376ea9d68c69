"""The plots of an atlas: accuracy and cost by depth, and the accuracy of each class by depth."""

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
from pipeline.report.atlas.layer_sets import KNN, LOGISTIC, short_name

MARKS: dict[str, dict[str, Any]] = {
    LOGISTIC: {"color": drawing.BLUE, "marker": "o", "label": "logistic regression"},
    KNN: {"color": drawing.GREEN, "marker": "s", "label": "nearest neighbors"},
}
ON_VAL: dict[str, Any] = {"marker": "_", "markersize": 13, "markeredgewidth": 1.4, "color": drawing.GRAY}
MAX_ANNOTATED_CLASSES = 20  # beyond this, numbers in the cells are illegible


def draw_depth(table: pd.DataFrame, freeze_through: int, caption: str) -> Figure:
    """Draw test accuracy with 95 % intervals by depth, and the cost up to each depth below.

    Single blocks are on the left, concatenations on the right.
    """
    figure = drawing.empty_figure(caption, width=10.5, height=7.2)
    multiple = table["blocks"].str.contains("+", regex=False)
    parts = [table[~multiple], table[multiple]]
    widths = [max(1, part["blocks"].nunique()) for part in parts]
    panels = figure.subplots(2, 2, sharex="col", sharey="row", width_ratios=widths, height_ratios=[2.3, 1])
    for (accuracy, cost), part, line in zip(panels.T, parts, ("-", "none"), strict=True):
        names = part["blocks"].drop_duplicates().tolist()
        _draw_accuracy(accuracy, part, names, line)
        _draw_cost(cost, part.drop_duplicates("blocks"))
        cost.set_xticks(range(len(names)), [short_name(name) for name in names])
        cost.set_xlim(-0.6, len(names) - 0.4)
    (single, concatenated), (single_cost, concatenated_cost) = panels
    border = freeze_through - 0.5  # the x axis starts at 0
    single.axvline(border, color=drawing.ORANGE, linewidth=1.4, linestyle="--")
    drawing.annotate_above(single, border, "◂ frozen | trainable ▸", color=drawing.ORANGE)
    single.set_title("Layer atlas: accuracy by depth", pad=24)
    concatenated.set_title("Adjacent blocks, concatenated", pad=24)
    single.set_ylabel("accuracy on test, % (95 % Wilson interval)")
    single_cost.set(ylabel="multiply-adds up to\nthe deepest block, %", xlabel="single block")
    concatenated_cost.set_xlabel("concatenated blocks")
    concatenated.legend(loc="lower right", fontsize=9)
    return figure


def _draw_accuracy(axes: Axes, part: pd.DataFrame, names: list[str], line: str) -> None:
    for head, marks in MARKS.items():
        rows = part[part["head"] == head].set_index("blocks").loc[names]
        style = {**drawing.POINTS, "linestyle": line, **marks}
        errors = drawing.error_bars(rows, "test_accuracy")
        axes.errorbar(range(len(names)), 100 * rows["test_accuracy"], yerr=errors, **style)
        label = "accuracy on val" if head == KNN else None
        axes.plot(range(len(names)), 100 * rows["val_accuracy"], linestyle="none", label=label, **ON_VAL)


def _draw_cost(axes: Axes, rows: pd.DataFrame) -> None:
    bars = axes.bar(range(len(rows)), 100 * rows["multiply_adds_share"], width=0.62, **drawing.BARS)
    costs = zip(rows["extract_seconds"], rows["extract_seconds_measured"], strict=True)
    labels = [f"{'' if measured else '≈ '}{format_duration(seconds)}" for seconds, measured in costs]
    axes.bar_label(bars, labels, padding=1, fontsize=8)
    axes.set(ylim=(0, 120), yticks=range(0, 101, 25))


def draw_classes(classes: pd.DataFrame, caption: str) -> Figure:
    """Draw the test accuracy of logistic regression for each class and layer set, in percent."""
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
    axes.set_xlabel("single block (a frame marks the best of a class)   |   concatenated blocks")
    step = math.ceil(len(grid) / drawing.MAX_NAMED_CLASSES)
    axes.set_yticks(range(0, len(grid), step), [drawing.shorten(name) for name in grid.index[::step]])
    axes.tick_params(length=0)
    singles = sum("+" not in name for name in columns)
    axes.axvline(singles - 0.5, color="white", linewidth=5)
    if len(grid) <= MAX_ANNOTATED_CLASSES:
        for (row, column), share in np.ndenumerate(shares):
            ink = drawing.contrasting_color(image.to_rgba(share))
            axes.text(column, row, f"{share:.0f}", color=ink, fontsize=9, **drawing.CENTERED)
    frame: dict[str, Any] = {"fill": False, "edgecolor": drawing.ORANGE, "linewidth": 1.6}
    for row, column in enumerate(shares[:, :singles].argmax(axis=1)):
        axes.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, **frame))
    return figure
