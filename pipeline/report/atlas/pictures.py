"""The pictures of an atlas: accuracy and cost by depth, and the accuracy of each class by depth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from pipeline.formatting import shown_seconds
from pipeline.report.atlas.layer_sets import LOGISTIC, NEIGHBOURS, short_name
from pipeline.report.figure import BLUE, ORANGE, empty_figure, new_figure, readable_on
from pipeline.report.label_placement import GREY

GREEN = "#009E73"
MARKS: dict[str, dict[str, Any]] = {
    LOGISTIC: {"color": BLUE, "marker": "o", "label": "logistic regression"},
    NEIGHBOURS: {"color": GREEN, "marker": "s", "label": "nearest neighbours"},
}
ON_VAL: dict[str, Any] = {
    "linestyle": "none",
    "marker": "_",
    "markersize": 13,
    "markeredgewidth": 1.4,
    "color": GREY,
}
ANNOTATED_CLASSES = 20  # beyond this, numbers in the cells cannot be read
NAMED_CLASSES = 40  # beyond this, names collide
LONGEST_NAME = 22  # letters of a class


def draw_depth(table: pd.DataFrame, freeze_through: int, caption: str) -> Figure:
    """Draw test accuracy with 95 % intervals against depth, joins beside, and the cost up to there below."""
    figure = empty_figure(caption, width=10.5, height=7.2)
    parts = [table[~_is_join(table)], table[_is_join(table)]]
    widths = [max(1, part["blocks"].nunique()) for part in parts]
    panels = figure.subplots(2, 2, sharex="col", sharey="row", width_ratios=widths, height_ratios=[2.3, 1])
    for column, part in enumerate(parts):
        names = part["blocks"].drop_duplicates().tolist()
        _draw_accuracy(panels[0][column], part, names, joined=column == 0)
        _draw_cost(panels[1][column], part.drop_duplicates("blocks"))
        panels[1][column].set_xticks(range(len(names)), [short_name(name) for name in names])
        panels[1][column].set_xlim(-0.6, len(names) - 0.4)
    _mark_cut(panels[0][0], freeze_through)
    panels[0][0].set_title("Layer atlas: accuracy by depth", pad=24)
    panels[0][1].set_title("Joins of neighbouring blocks", pad=24)
    panels[0][0].set_ylabel("accuracy on test, % (95 % Wilson interval)")
    panels[1][0].set_ylabel("multiply-adds up to\nthe deepest block, %")
    panels[1][0].set_xlabel("block alone")
    panels[1][1].set_xlabel("blocks joined")
    panels[0][1].legend(loc="lower right", fontsize=9)
    return figure


def _draw_accuracy(axes: Axes, part: pd.DataFrame, names: list[str], *, joined: bool) -> None:
    for head, marks in MARKS.items():
        rows = part[part["head"] == head].set_index("blocks").loc[names]
        y = 100 * rows["test_accuracy"]
        errors = [y - 100 * rows["test_accuracy_low"], 100 * rows["test_accuracy_high"] - y]
        line = "-" if joined else "none"
        axes.errorbar(range(len(names)), y, yerr=errors, linestyle=line, markersize=5.5, capsize=3, **marks)
        label = "the same on val" if head == NEIGHBOURS else None
        axes.plot(range(len(names)), 100 * rows["val_accuracy"], label=label, **ON_VAL)


def _draw_cost(axes: Axes, rows: pd.DataFrame) -> None:
    shares = 100 * rows["multiply_adds_share"]
    axes.bar(range(len(rows)), shares, width=0.62, color="#bcd9ee", edgecolor=BLUE, linewidth=0.8)
    for place, (share, seconds, measured) in enumerate(
        zip(shares, rows["extract_seconds"], rows["extract_seconds_measured"], strict=True)
    ):
        words = shown_seconds(seconds) if measured else f"≈ {shown_seconds(seconds)}"
        axes.annotate(words, (place, share), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    axes.set_ylim(0, 120)
    axes.set_yticks(range(0, 101, 25))


def _mark_cut(axes: Axes, freeze_through: int) -> None:
    border = freeze_through - 0.5  # blocks are drawn from 0 on
    axes.axvline(border, color=ORANGE, linewidth=1.4, linestyle="--")
    spot: dict[str, Any] = {
        "xy": (border, 1),
        "xycoords": axes.get_xaxis_transform(),
        "annotation_clip": False,
    }
    words: dict[str, Any] = {
        "textcoords": "offset points",
        "ha": "center",
        "va": "bottom",
        "fontsize": 9,
        "color": ORANGE,
    }
    axes.annotate("◂ frozen | moves ▸", xytext=(0, 3), **spot, **words)


def draw_classes(classes: pd.DataFrame, caption: str) -> Figure:
    """Draw the test accuracy of each class for each layer set under logistic regression, in per cent."""
    rows = classes[classes["head"] == LOGISTIC]
    columns = rows["blocks"].drop_duplicates().tolist()
    grid = 100 * rows.pivot(index="class", columns="blocks", values="test_accuracy")[columns]
    grid = grid.loc[rows["class"].drop_duplicates()]
    height = 2.4 + max(0.14 * len(grid), min(0.36 * len(grid), 7.2))
    figure, axes = new_figure(caption, width=10.5, height=height)
    low, high = 10 * math.floor(grid.min(axis=None) / 10), 10 * math.ceil(grid.max(axis=None) / 10)
    scale = {"cmap": "Blues", "vmin": low, "vmax": max(high, low + 10)}
    image = axes.imshow(grid, aspect="auto", interpolation="nearest", **scale)
    axes.grid(False)
    axes.set_title("Layer atlas: accuracy of each class by depth, logistic regression on test")
    axes.set_xticks(range(len(columns)), [short_name(name) for name in columns])
    axes.set_xlabel("block alone (framed where a class is best)   |   blocks joined")
    step = math.ceil(len(grid) / NAMED_CLASSES)
    axes.set_yticks(range(0, len(grid), step), [_short(name) for name in grid.index[::step]])
    axes.tick_params(length=0)
    alone = sum("+" not in name for name in columns)
    axes.axvline(alone - 0.5, color="white", linewidth=5)
    if len(grid) <= ANNOTATED_CLASSES:
        _annotate(axes, grid.to_numpy(), image)
    _frame_best(axes, grid.to_numpy()[:, :alone])
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=24, format=lambda value, _: f"{value:g} %")
    bar.outline.set_visible(False)
    return figure


def _annotate(axes: Axes, grid: np.ndarray, image: AxesImage) -> None:
    for (row, column), value in np.ndenumerate(grid):
        colour = readable_on(image.cmap(image.norm(value)))
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)


def _frame_best(axes: Axes, grid: np.ndarray) -> None:
    """Frame the first of each row's highest cells."""
    for row, column in enumerate(grid.argmax(axis=1)):
        frame: dict[str, Any] = {"fill": False, "edgecolor": ORANGE, "linewidth": 1.6}
        axes.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, **frame))


def _is_join(table: pd.DataFrame) -> pd.Series:
    return table["blocks"].str.contains("+", regex=False)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
