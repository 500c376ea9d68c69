"""Plots of stored results: a row a plot, drawn without global state, the same bytes for the same run.

A new plot is one function that starts with new_figure and one row in PLOTS or COMPARISON_PLOTS. A function
of PLOTS receives a RunResult, one of COMPARISON_PLOTS a Comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix as count_pairs

from pipeline.errors import unknown_name
from pipeline.formatting import shown, shown_seconds
from pipeline.report.figure import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    new_figure,
    publish_figure,
    readable_on,
)
from pipeline.report.label_placement import GREY, place_labels
from pipeline.report.table import COMPARISON_PLOTS, PLOTS, Plot
from pipeline.results.comparison import Comparison
from pipeline.results.scores import class_scores, highest_row, score
from pipeline.runs.result import RunResult, caption, family_of, label, label_of

ANNOTATED_CLASSES = 12  # beyond this, numbers in the cells of a confusion matrix cannot be read
NAMED_CLASSES = 40  # beyond this, names along the axes of a confusion matrix collide
SHOWN_BARS = 40  # beyond this, the figure no longer fits a screen
MARKED_EPOCHS = 40  # beyond this, markers hide the line
LONGEST_NAME = 22  # of a class; a longer one would take the width from the plot
BESIDE: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "left",
    "va": "center",
    "annotation_clip": False,
}
ABOVE: dict[str, Any] = {
    "textcoords": "offset points",
    "va": "bottom",
    "annotation_clip": False,
    "fontsize": 9,
}
TICK_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 108000, 360000)
TICK_NAMES = (
    *("0.01 s", "0.03 s", "0.1 s", "0.3 s", "1 s", "3 s", "10 s", "30 s"),
    *("1 min", "3 min", "10 min", "30 min", "1 h", "3 h", "10 h", "30 h", "100 h"),
)
SHORTEST = TICK_SECONDS[0]  # a logarithmic axis has no zero; anything shorter is drawn here


@dataclass(frozen=True)
class Family:
    """How the schemes of one family are marked; shape and colour both tell them apart."""

    title: str
    colour: str
    marker: str


FAMILIES = {
    "head": Family("head on cached features", BLUE, "o"),
    "tuned-head": Family("head chosen by a sweep", SKY, "P"),
    "fine-tune": Family("fine-tuned", ORANGE, "s"),
    "from-scratch": Family("from scratch", GREEN, "^"),
}
OTHER_FAMILY = Family("other", PURPLE, "D")


def accuracy_over_time(run: RunResult) -> Figure:
    """Draw train and val accuracy against the epoch."""
    figure, axes = _over_time(run, quantity="accuracy")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    return figure


def loss_over_time(run: RunResult) -> Figure:
    """Draw train and val loss (nats) against the epoch."""
    figure, axes = _over_time(run, quantity="loss")
    axes.set_ylabel("loss (nats)")
    return figure


def confusion_matrix(run: RunResult) -> Figure:
    """Draw how the images of each class on test were called, in per cent of the class; counts if C <= 12."""
    test = run.split("test")
    classes = range(len(test.class_names))
    counts = count_pairs(test.labels, test.probabilities.argmax(axis=1), labels=list(classes))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(caption(run), width=7.2, height=6.4)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.grid(False)
    axes.set_title(f"Confusion on test: {label(run)}")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    ticks = list(classes)[:: math.ceil(len(classes) / NAMED_CLASSES)]
    names = [_short(test.class_names[tick]) for tick in ticks]
    size = 9 if len(ticks) <= 20 else 6
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=lambda value, _: f"{value:g} %")
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    if len(classes) <= ANNOTATED_CLASSES:
        axes.set_xlabel("predicted class (in a cell: % of the true class, images)")
        _annotate_cells(axes, shares, counts)
    return figure


def per_class_accuracy(run: RunResult) -> Figure:
    """Draw the accuracy on the test images of each class, best on top, with 95 % Wilson intervals."""
    test = run.split("test")
    table = class_scores(test).query("metric == 'recall'").dropna(subset=["low"])
    table = table.sort_values(["value", "class"], ascending=[True, False], ignore_index=True)
    note = ""
    if len(table) > SHOWN_BARS:
        half = SHOWN_BARS // 2
        note = f"; the {half} most and {half} least accurate of {len(table)} classes"
        table = table.drop(index=range(half, len(table) - half)).reset_index(drop=True)
    figure, axes = new_figure(caption(run), height=2.0 + max(0.15 * len(table), min(0.33 * len(table), 4.0)))
    axes.barh(table.index, 100 * table["value"], height=0.7, color="#bcd9ee", edgecolor=BLUE, linewidth=0.8)
    axes.errorbar(
        100 * table["value"],
        table.index,
        xerr=_errors(table, "value"),
        fmt="none",
        ecolor=BLACK,
        capsize=2.5,
    )
    size = 9 if len(table) <= 25 else 6
    for position, value in enumerate(table["value"]):
        axes.annotate(shown(value, "%"), (100, position), (8, 0), fontsize=size, **BESIDE)
    axes.set_yticks(table.index, [_short(name) for name in table["class"]], fontsize=size)
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.set_xlim(0, 100)
    axes.grid(False, axis="y")
    _mark_overall(axes, score(test)["accuracy"])
    axes.set_xlabel(f"accuracy on test, % (95 % Wilson interval{note})")
    axes.set_title(f"Accuracy of each class: {label(run)}", pad=22)
    return figure


def accuracy_with_intervals(comparison: Comparison) -> Figure:
    """Draw one point a run of the comparison with its 95 % interval, most accurate on top."""
    table = comparison.table.assign(label=_row_labels(comparison.table))
    table = table.sort_values("accuracy", kind="stable", ignore_index=True)
    figure, axes = new_figure(comparison.caption, height=2.0 + 0.34 * len(table))
    for family, rows in _by_family(table):
        axes.errorbar(
            100 * rows["accuracy"], rows.index, xerr=_errors(rows, "accuracy"), **_marks(family), capsize=3
        )
    for position, row in table.iterrows():
        value = shown(row["accuracy"], "%")
        axes.annotate(value, (100 * row["accuracy_high"], position), (6, 0), fontsize=9, **BESIDE)
    axes.set_yticks(table.index, table["label"])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.margins(x=0.12)
    axes.set_xlabel("accuracy on test, % (95 % Wilson interval)")
    axes.set_title(COMPARISON_PLOTS["accuracy_with_intervals"].title, pad=26)
    _legend_above(axes)
    return figure


def accuracy_against_cost(comparison: Comparison) -> Figure:
    """Draw test accuracy with its interval against total time (logarithmic) and the Pareto front.

    On the front, nothing that takes no longer is as accurate. A time below 0.01 s is drawn at 0.01 s.
    """
    table = comparison.table
    table = table.assign(seconds=table["total_seconds"].clip(lower=SHORTEST))
    figure, axes = new_figure(comparison.caption, width=9.0, height=6.2)
    left, right = table["seconds"].min() / 2, table["seconds"].max() * 2.5
    front = _pareto_front(table)
    steps = ([*front["seconds"], right], [*(100 * front["accuracy"]), 100 * front["accuracy"].max()])
    axes.step(*steps, where="post", color=GREY, linewidth=1.2, linestyle="--", label="Pareto front", zorder=1)
    for family, rows in _by_family(table):
        axes.errorbar(
            rows["seconds"],
            100 * rows["accuracy"],
            yerr=_errors(rows, "accuracy"),
            **_marks(family),
            capsize=3,
        )
    time_axis(axes, left, right)
    axes.margins(y=0.12)
    axes.set_xlabel("total time, feature extraction included (logarithmic)")
    axes.set_ylabel("accuracy on test, % (95 % Wilson interval)")
    axes.set_title(COMPARISON_PLOTS["accuracy_against_cost"].title, pad=26)
    _legend_above(axes)
    place_labels(axes, table, line=steps)
    return figure


def alt_text(plot_name: str, run: RunResult) -> str:
    """Return a run's plot in words. Raises BadInput for a name that is not in PLOTS."""
    accuracy = shown(score(run.split("test"))["accuracy"], "%")
    return _plot(PLOTS, plot_name).alt.format(label=label(run), caption=caption(run), accuracy=accuracy)


def comparison_alt_text(plot_name: str, comparison: Comparison) -> str:
    """Return a comparison's plot in words. Raises BadInput for a name that is not in COMPARISON_PLOTS."""
    table = comparison.table
    best = highest_row(table, "accuracy")
    return _plot(COMPARISON_PLOTS, plot_name).alt.format(
        label=label_of(best["scheme"], best["weights"]),
        accuracy=shown(best["accuracy"], "%"),
        caption=comparison.caption,
        count=len(table),
        pairs=len(comparison.differences),
        real=sum(comparison.differences["real"]),
    )


def draw(plot_name: str, run: RunResult, path: Path) -> None:
    """Publish a row of PLOTS as PNG at path. Raises BadInput for an unknown name."""
    publish_figure(path, _plot(PLOTS, plot_name).draw, run)


def draw_comparison(plot_name: str, comparison: Comparison, path: Path) -> None:
    """Publish a row of COMPARISON_PLOTS as PNG at path. Raises BadInput for an unknown name."""
    publish_figure(path, _plot(COMPARISON_PLOTS, plot_name).draw, comparison)


def time_axis(axes: Axes, left: float, right: float, *, most: int = 99, vertical: bool = False) -> None:
    """Make an axis logarithmic from left to right seconds, with at most so many ticks in people's units."""
    inside = [pair for pair in zip(TICK_SECONDS, TICK_NAMES, strict=True) if left <= pair[0] <= right]
    ticks = dict(inside[:: math.ceil(len(inside) / most) or 1])
    scale, limit, name = (
        (axes.set_yscale, axes.set_ylim, axes.set_yticks)
        if vertical
        else (axes.set_xscale, axes.set_xlim, axes.set_xticks)
    )
    scale("log")
    limit(left, right)
    name(list(ticks), list(ticks.values()))
    axes.minorticks_off()


def _plot(plots: dict[str, Plot], name: str) -> Plot:
    if name not in plots:
        raise unknown_name("plot", name, plots)
    return plots[name]


def _over_time(run: RunResult, *, quantity: str) -> tuple[Figure, Axes]:
    history = run.history
    figure, axes = new_figure(caption(run))
    marker = "o" if len(history) <= MARKED_EPOCHS else None
    for split, colour, line in (("train", BLUE, "--"), ("val", ORANGE, "-")):
        values = history[f"{split}_{quantity}"]
        if values.notna().any():
            axes.plot(
                history["epoch"],
                values,
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4,
                label=split,
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    axes.set_title(f"{quantity.capitalize()} over time: {label(run)}", pad=22)
    if not axes.lines:
        axes.text(
            0.5, 0.5, "no epochs: fitted in one step", transform=axes.transAxes, ha="center", color=GREY
        )
        axes.set(xticks=[], yticks=[])
        return figure, axes
    if history["seconds"].notna().any():
        axes.set_xlabel(f"epoch ({len(history)} took {shown_seconds(history['seconds'].max())})")
    axes.legend(loc="best")
    _mark_stages(axes, history)
    return figure, axes


def _mark_stages(axes: Axes, history: pd.DataFrame) -> None:
    stages, epochs = history["stage"].tolist(), history["epoch"].tolist()
    for row in range(1, len(stages)):
        if stages[row] == stages[row - 1]:
            continue
        border = (epochs[row - 1] + epochs[row]) / 2
        axes.axvline(border, color=GREY, linewidth=1.0, linestyle=":")
        spot: dict[str, Any] = {"xy": (border, 1), "xycoords": axes.get_xaxis_transform(), "color": GREY}
        axes.annotate(f"{stages[row - 1]} ◂", xytext=(-2, 3), ha="right", **spot, **ABOVE)
        axes.annotate(f"▸ {stages[row]}", xytext=(2, 3), ha="left", **spot, **ABOVE)


def _mark_overall(axes: Axes, accuracy: float) -> None:
    axes.axvline(100 * accuracy, color=ORANGE, linewidth=1.6, linestyle="--")
    spot: dict[str, Any] = {
        "xy": (100 * accuracy, 1),
        "xycoords": axes.get_xaxis_transform(),
        "color": ORANGE,
    }
    axes.annotate(f"overall {shown(accuracy, '%')}", xytext=(0, 3), ha="center", **spot, **ABOVE)


def _annotate_cells(axes: Axes, shares: np.ndarray, counts: np.ndarray) -> None:
    image = axes.images[0]
    for (row, column), count in np.ndenumerate(counts):
        if count == 0:
            continue
        colour = readable_on(image.cmap(image.norm(shares[row, column])))
        axes.text(
            column,
            row - 0.14,
            f"{shares[row, column]:.0f}",
            ha="center",
            va="center",
            color=colour,
            fontsize=9,
        )
        axes.text(column, row + 0.24, f"{count:,}", ha="center", va="center", color=colour, fontsize=7)


def _row_labels(table: pd.DataFrame) -> list[str]:
    """Return a label a row; the seed is named where a scheme has several."""
    names = [label_of(*pair) for pair in zip(table["scheme"], table["weights"], strict=True)]
    several = table.duplicated(["scheme", "weights"], keep=False)
    return [
        f"{name} · seed {seed}" if repeated else name
        for name, seed, repeated in zip(names, table["seed"], several, strict=True)
    ]


def _by_family(table: pd.DataFrame) -> list[tuple[Family, pd.DataFrame]]:
    families = table["scheme"].map(family_of)
    known = [(row, table[families == name]) for name, row in FAMILIES.items()]
    groups = [*known, (OTHER_FAMILY, table[~families.isin(FAMILIES)])]
    return [(family, rows) for family, rows in groups if not rows.empty]


def _marks(family: Family) -> dict[str, Any]:
    return {
        "label": family.title,
        "color": family.colour,
        "marker": family.marker,
        "linestyle": "none",
        "markersize": 5.5,
        "elinewidth": 1.4,
    }


def _errors(table: pd.DataFrame, value: str) -> list[pd.Series]:
    """Return the lengths of the error bars in per cent, below and above."""
    stem = "" if value == "value" else f"{value}_"
    lengths = (table[value] - table[f"{stem}low"], table[f"{stem}high"] - table[value])
    return [100 * length.clip(lower=0) for length in lengths]


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(FAMILIES) + 2,
        borderaxespad=0.1,
        fontsize=9,
        columnspacing=1.2,
    )


def _pareto_front(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are more accurate than everything that takes no longer, cheapest first."""
    ordered = table.sort_values(["seconds", "accuracy"], ascending=[True, False], kind="stable")
    before = ordered["accuracy"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered["accuracy"] > before]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
