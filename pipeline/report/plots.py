"""Plots of stored results: a row a plot, drawn without global state, the same bytes for the same run.

A new plot is one function that starts with new_figure and one row in PLOTS or COMPARISON_PLOTS. A function
of PLOTS receives a RunResult, one of COMPARISON_PLOTS a Comparison.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from sklearn.metrics import confusion_matrix as count_pairs

from pipeline.errors import unknown_name
from pipeline.formatting import format_duration, format_value
from pipeline.report import drawing
from pipeline.report.table import COMPARISON_PLOTS, PLOTS, Plot
from pipeline.results.comparison import Comparison
from pipeline.results.scores import class_scores, highest_row, score
from pipeline.runs.result import RunResult, caption, label, label_of

ANNOTATED_CLASSES = 12  # beyond this, numbers in the cells of a confusion matrix cannot be read
SHOWN_BARS = 40  # beyond this, the figure no longer fits a screen
MARKED_EPOCHS = 40  # beyond this, markers hide the line
BESIDE: dict[str, Any] = {"ha": "left", "va": "center", **drawing.OFFSET}
TICK_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 108000, 360000)
TICK_NAMES = (
    *("0.01 s", "0.03 s", "0.1 s", "0.3 s", "1 s", "3 s", "10 s", "30 s"),
    *("1 min", "3 min", "10 min", "30 min", "1 h", "3 h", "10 h", "30 h", "100 h"),
)
SHORTEST = TICK_SECONDS[0]  # a logarithmic axis has no zero; anything shorter is drawn here
# Where a point's label may stand, in points from it: the first place that covers least wins.
LABEL_DISTANCES = (9, 14, 24, 38)
LABEL_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7))
LABEL_PLACES = [
    (across * distance, up * distance) for distance in LABEL_DISTANCES for across, up in LABEL_DIRECTIONS
]
LED = 2 * len(LABEL_DIRECTIONS)  # the places from here on are so far away that a line leads to them
# How a text is aligned at a place, by the sign of the direction: 0, 1, -1.
HORIZONTAL, VERTICAL = ("center", "left", "right"), ("center", "bottom", "top")


def accuracy_over_time(run: RunResult) -> Figure:
    """Draw train and val accuracy against the epoch."""
    figure, axes = _over_time(run, "accuracy")
    axes.yaxis.set_major_formatter(drawing.percent)
    return figure


def loss_over_time(run: RunResult) -> Figure:
    """Draw train and val loss (nats) against the epoch."""
    figure, axes = _over_time(run, "loss")
    axes.set_ylabel("loss (nats)")
    return figure


def confusion_matrix(run: RunResult) -> Figure:
    """Draw how the images of each class on test were called, in per cent of the class; counts if C <= 12."""
    test = run.split("test")
    classes = range(len(test.class_names))
    counts = count_pairs(test.labels, test.probabilities.argmax(axis=1), labels=list(classes))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = drawing.new_figure(caption(run), width=7.2, height=6.4)
    bar: dict[str, Any] = {"shrink": 0.8, "format": "{x:g} %", "label": "share of the true class"}
    image = drawing.heat_map(axes, shares, bar, vmin=0, vmax=100, interpolation="nearest")
    axes.set(title=f"Confusion on test: {label(run)}", xlabel="predicted class", ylabel="true class")
    ticks = classes[:: math.ceil(len(classes) / drawing.NAMED_CLASSES)]
    names = [drawing.short(test.class_names[tick]) for tick in ticks]
    size = 9 if len(ticks) <= 20 else 6
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    if len(classes) <= ANNOTATED_CLASSES:
        axes.set_xlabel("predicted class (in a cell: % of the true class, images)")
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            if count:
                style = {"color": drawing.readable_on(image.to_rgba(share)), **drawing.CENTRED}
                axes.text(column, row - 0.14, f"{share:.0f}", fontsize=9, **style)
                axes.text(column, row + 0.24, f"{count:,}", fontsize=7, **style)
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
    figure, axes = drawing.new_figure(
        caption(run), height=2.0 + max(0.15 * len(table), min(0.33 * len(table), 4.0))
    )
    values, errors = 100 * table["value"], drawing.error_bars(table, "value", stem="")
    axes.barh(table.index, values, height=0.7, **drawing.BARS)
    axes.errorbar(values, table.index, xerr=errors, fmt="none", ecolor=drawing.BLACK, capsize=2.5)
    size = 9 if len(table) <= 25 else 6
    for position, value in enumerate(table["value"]):
        axes.annotate(format_value(value, "%"), (100, position), (8, 0), fontsize=size, **BESIDE)
    axes.set_yticks(table.index, [drawing.short(name) for name in table["class"]], fontsize=size)
    axes.set(ylim=(-0.6, len(table) - 0.4), xlim=(0, 100))
    axes.grid(False, axis="y")
    overall = score(test)["accuracy"]
    axes.axvline(100 * overall, color=drawing.ORANGE, linewidth=1.6, linestyle="--")
    drawing.write_above(axes, 100 * overall, f"overall {format_value(overall, '%')}", color=drawing.ORANGE)
    axes.set_xlabel(f"accuracy on test, % (95 % Wilson interval{note})")
    axes.set_title(f"Accuracy of each class: {label(run)}", pad=22)
    return figure


def accuracy_with_intervals(comparison: Comparison) -> Figure:
    """Draw one point a run of the comparison with its 95 % interval, most accurate on top."""
    table = comparison.table.assign(label=_row_labels(comparison.table))
    table = table.sort_values("accuracy", kind="stable", ignore_index=True)
    figure, axes = drawing.new_figure(comparison.caption, height=2.0 + 0.34 * len(table))
    for rows, marks in _by_family(table):
        axes.errorbar(100 * rows["accuracy"], rows.index, xerr=drawing.error_bars(rows, "accuracy"), **marks)
    for position, (accuracy, high) in enumerate(zip(table["accuracy"], table["accuracy_high"], strict=True)):
        axes.annotate(format_value(accuracy, "%"), (100 * high, position), (6, 0), fontsize=9, **BESIDE)
    axes.set_yticks(table.index, table["label"])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.margins(x=0.12)
    axes.set_xlabel("accuracy on test, % (95 % Wilson interval)")
    _title_and_legend(axes, "accuracy_with_intervals")
    return figure


def accuracy_against_cost(comparison: Comparison) -> Figure:
    """Draw test accuracy with its interval against total time (logarithmic) and the Pareto front.

    On the front, nothing that takes no longer is as accurate. A time below 0.01 s is drawn at 0.01 s.
    """
    table = comparison.table
    table = table.assign(seconds=table["total_seconds"].clip(lower=SHORTEST))
    figure, axes = drawing.new_figure(comparison.caption, width=9.0, height=6.2)
    left, right = table["seconds"].min() / 2, table["seconds"].max() * 2.5
    front = _pareto_front(table)
    steps = [*front["seconds"], right], 100 * np.append(front["accuracy"], front["accuracy"].max())
    line: dict[str, Any] = {"color": drawing.GREY, "linewidth": 1.2, "linestyle": "--", "zorder": 1}
    (drawn,) = axes.step(*steps, where="post", label="Pareto front", **line)
    for rows, marks in _by_family(table):
        errors = drawing.error_bars(rows, "accuracy")
        axes.errorbar(rows["seconds"], 100 * rows["accuracy"], yerr=errors, **marks)
    time_axis(axes, left, right)
    axes.margins(y=0.12)
    axes.set_xlabel("total time, feature extraction included (logarithmic)")
    axes.set_ylabel("accuracy on test, % (95 % Wilson interval)")
    _title_and_legend(axes, "accuracy_against_cost")
    _place_labels(axes, table, drawn)
    return figure


def comparison_alt_text(plot_name: str, comparison: Comparison) -> str:
    """Return a comparison's plot in words. Raises BadInput for a name that is not in COMPARISON_PLOTS."""
    table = comparison.table
    best = highest_row(table, "accuracy")
    return _plot(COMPARISON_PLOTS, plot_name).alt.format(
        label=label_of(best["scheme"], best["weights"]),
        accuracy=format_value(best["accuracy"], "%"),
        caption=comparison.caption,
        count=len(table),
        pairs=len(comparison.differences),
        real=sum(comparison.differences["real"]),
    )


def draw(plot_name: str, run: RunResult, path: Path) -> None:
    """Publish a row of PLOTS as PNG at path. Raises BadInput for an unknown name."""
    drawing.publish_figure(path, _plot(PLOTS, plot_name).draw, run)


def draw_comparison(plot_name: str, comparison: Comparison, path: Path) -> None:
    """Publish a row of COMPARISON_PLOTS as PNG at path. Raises BadInput for an unknown name."""
    drawing.publish_figure(path, _plot(COMPARISON_PLOTS, plot_name).draw, comparison)


def time_axis(axes: Axes, left: float, right: float, *, most: int = 99, vertical: bool = False) -> None:
    """Make an axis logarithmic from left to right seconds, with at most so many ticks in people's units."""
    inside = [pair for pair in zip(TICK_SECONDS, TICK_NAMES, strict=True) if left <= pair[0] <= right]
    ticks = dict(inside[:: math.ceil(len(inside) / most) or 1])
    axis = "y" if vertical else "x"
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (left, right)})
    axes.set(**{f"{axis}ticks": list(ticks), f"{axis}ticklabels": list(ticks.values())})
    axes.minorticks_off()


def _plot(plots: dict[str, Plot], name: str) -> Plot:
    if name not in plots:
        raise unknown_name("plot", name, plots)
    return plots[name]


def _over_time(run: RunResult, quantity: str) -> tuple[Figure, Axes]:
    history = run.history
    figure, axes = drawing.new_figure(caption(run))
    marks: dict[str, Any] = {"marker": "o" if len(history) <= MARKED_EPOCHS else None, "markersize": 4}
    for split, colour, line in (("train", drawing.BLUE, "--"), ("val", drawing.ORANGE, "-")):
        values = history[f"{split}_{quantity}"]
        if values.notna().any():
            axes.plot(history["epoch"], values, color=colour, linestyle=line, label=split, **marks)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.set_title(f"{quantity.capitalize()} over time: {label(run)}", pad=22)
    if not axes.lines:
        drawing.say_instead(axes, "no epochs: fitted in one step")
        return figure, axes
    if history["seconds"].notna().any():
        axes.set_xlabel(f"epoch ({len(history)} took {format_duration(history['seconds'].max())})")
    axes.legend(loc="best")
    for before, after in itertools.pairwise(history.to_dict("records")):
        if before["stage"] != after["stage"]:
            border = (before["epoch"] + after["epoch"]) / 2
            axes.axvline(border, color=drawing.GREY, linewidth=1.0, linestyle=":")
            drawing.write_above(
                axes, border, f"{before['stage']} ◂", shift=-2, ha="right", color=drawing.GREY
            )
            drawing.write_above(axes, border, f"▸ {after['stage']}", shift=2, ha="left", color=drawing.GREY)
    return figure, axes


def _row_labels(table: pd.DataFrame) -> list[str]:
    """Return a label a row; the seed is named where a scheme has several."""
    several = table.duplicated(["scheme", "weights"], keep=False)
    return [
        label_of(row["scheme"], row["weights"]) + (f" · seed {row['seed']}" if repeated else "")
        for row, repeated in zip(table.to_dict("records"), several, strict=True)
    ]


def _by_family(table: pd.DataFrame) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Return the rows of each family that is there, and how errorbar marks them."""
    labels = table["scheme"].map(lambda scheme: drawing.marks_of(scheme)["label"])
    found = [(table[labels == marks["label"]], marks) for marks in drawing.FAMILIES.values()]
    return [(rows, {**drawing.POINTS, **marks, "elinewidth": 1.4}) for rows, marks in found if len(rows)]


def _title_and_legend(axes: Axes, plot_name: str) -> None:
    axes.set_title(COMPARISON_PLOTS[plot_name].title, pad=26)
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
    axes.legend(**place, ncols=len(drawing.FAMILIES) + 1, columnspacing=1.2, fontsize=9)


def _pareto_front(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are more accurate than everything that takes no longer, cheapest first."""
    ordered = table.sort_values(["seconds", "accuracy"], ascending=[True, False], kind="stable")
    before = ordered["accuracy"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered["accuracy"] > before]


def _place_labels(axes: Axes, table: pd.DataFrame, front: Line2D) -> None:
    """Name each scheme where the name covers fewest of points, bars, front and names before it.

    A scheme with several seeds is named once, at its most accurate point.
    """
    cast(Any, axes.figure).draw_without_rendering()  # fixes the layout: places are compared in pixels
    to_pixels, all_bars = axes.transData.transform, cast("list[LineCollection]", axes.collections)
    taken = [Bbox(to_pixels(bar)).padded(5, 2) for bars in all_bars for bar in bars.get_segments()]
    for (x, y), (next_x, next_y) in itertools.pairwise(to_pixels(front.get_xydata())):
        taken += [Bbox([[x, y], [next_x, y]]).padded(2), Bbox([[next_x, y], [next_x, next_y]]).padded(2)]
    scheme = ["scheme", "weights"]
    seeds = table.groupby(scheme)["seed"].transform("size")
    named = table.assign(seeds=seeds).sort_values("accuracy", ascending=False, kind="stable")
    for row in named.drop_duplicates(scheme).to_dict("records"):
        text = label_of(row["scheme"], row["weights"])
        text = f"{text} ({row['seeds']} seeds)" if row["seeds"] > 1 else text
        point = (row["seconds"], 100 * row["accuracy"])
        note = axes.annotate(text, point, (0, 0), fontsize=8.5, **drawing.OFFSET)
        note.set_in_layout(False)
        boxes = [_moved(note, place) for place in LABEL_PLACES]
        inside = [axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for box in boxes]
        covered = [box.count_overlaps(taken) for box in boxes]
        best = int(np.where(inside, covered, len(taken)).argmin())
        taken.append(_moved(note, LABEL_PLACES[best]))
        if best >= LED:
            leader = {"arrowstyle": "-", "color": drawing.GREY, "linewidth": 0.6}
            axes.annotate("", point, LABEL_PLACES[best], textcoords="offset points", arrowprops=leader)


def _moved(note: Annotation, place: tuple[float, float]) -> Bbox:
    """Move a text to a place beside its point and return the box that it fills, in pixels."""
    across, up = np.sign(place).astype(int)
    note.set(position=place, horizontalalignment=HORIZONTAL[across], verticalalignment=VERTICAL[up])
    return note.get_window_extent(cast(Any, note.figure).canvas.get_renderer())
