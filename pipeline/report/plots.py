"""Plots of stored results, drawn without global state: the same run gives the same bytes.

A function of PLOTS receives a RunResult, one of COMPARISON_PLOTS a Comparison.
"""

import itertools
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from sklearn.metrics import confusion_matrix as count_confusions

from pipeline.extensions import resolve
from pipeline.formatting import format_duration, format_value
from pipeline.report import drawing
from pipeline.report.table import COMPARISON_PLOTS, Plot
from pipeline.results.comparison import Comparison
from pipeline.results.scores import class_scores, score
from pipeline.runs.result import LABELED, RunResult, caption, label, label_of

MAX_ANNOTATED_CLASSES = 12  # with more, numbers in the cells of a confusion matrix are unreadable
MAX_BARS = 40  # with more, the figure does not fit on a screen
MAX_MARKED_EPOCHS = 40  # with more, markers hide the line
BESIDE: dict[str, Any] = {"ha": "left", "va": "center", **drawing.OFFSET}
TICKS = {"s": (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30), "min": (1, 3, 10, 30), "h": (1, 3, 10, 30, 100)}
SECONDS = {"s": 1, "min": 60, "h": 3600}
MIN_SECONDS = 0.01  # a log axis has no zero: shorter times are drawn here
# Candidate offsets of a label from its data point, in points: the first with the fewest overlaps is used.
LABEL_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7))
LABEL_OFFSETS = [(across * far, up * far) for far in (9, 14, 24, 38) for across, up in LABEL_DIRECTIONS]
FIRST_WITH_LEADER = 2 * len(LABEL_DIRECTIONS)  # offsets from here on are far enough to need a leader line


def accuracy_over_time(run: RunResult) -> Figure:
    """Draw train and val accuracy by epoch."""
    figure = _learning_curve(run, "accuracy")
    figure.axes[0].yaxis.set_major_formatter(drawing.percent)
    return figure


def loss_over_time(run: RunResult) -> Figure:
    """Draw train and val loss (nats) by epoch."""
    return _learning_curve(run, "loss", " (nats)")


def confusion_matrix(run: RunResult) -> Figure:
    """Draw the confusion matrix on test in percent of each true class, with counts for up to 12 classes."""
    test = run.split("test")
    classes = range(len(test.class_names))
    counts = count_confusions(test.labels, test.probabilities.argmax(axis=1), labels=list(classes))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = drawing.new_figure(caption(run), width=7.2, height=6.4)
    bar: dict[str, Any] = {"shrink": 0.8, "format": "{x:g} %", "label": "share of true class"}
    drawing.heat_map(axes, shares, bar, vmin=0, vmax=100, interpolation="nearest")
    axes.set(title=f"Confusion matrix on test: {label(run)}", xlabel="predicted class", ylabel="true class")
    ticks = classes[:: math.ceil(len(classes) / drawing.MAX_NAMED_CLASSES)]
    names = [drawing.shorten(test.class_names[tick]) for tick in ticks]
    size = 9 if len(ticks) <= 20 else 6
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    if len(classes) <= MAX_ANNOTATED_CLASSES:
        axes.set_xlabel("predicted class (cells: % of true class, number of images)")
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            if count:
                style = {"color": "white" if share > 50 else drawing.BLACK, **drawing.CENTERED}
                axes.text(column, row - 0.14, f"{share:.0f}", fontsize=9, **style)
                axes.text(column, row + 0.24, f"{count:,}", fontsize=7, **style)
    return figure


def per_class_accuracy(run: RunResult) -> Figure:
    """Draw the test accuracy of each class with 95 % Wilson intervals, best on top."""
    test = run.split("test")
    table = class_scores(test).query("metric == 'recall'").dropna(subset=["low"])
    table = table.sort_values(["value", "class"], ascending=[True, False], ignore_index=True)
    note = ""
    if len(table) > MAX_BARS:
        half = MAX_BARS // 2
        note = f"; {half} best and {half} worst of {len(table)} classes"
        table = table.drop(index=range(half, len(table) - half)).reset_index(drop=True)
    height = 2.0 + max(0.15 * len(table), min(0.33 * len(table), 4.0))
    figure, axes = drawing.new_figure(caption(run), height=height)
    values, errors = 100 * table["value"], drawing.error_bars(table, "value", stem="")
    axes.barh(table.index, values, height=0.7, **drawing.BARS)
    axes.errorbar(values, table.index, xerr=errors, fmt="none", ecolor=drawing.BLACK, capsize=2.5)
    size = 9 if len(table) <= 25 else 6
    for position, value in enumerate(table["value"]):
        axes.annotate(format_value(value, "%"), (100, position), (8, 0), fontsize=size, **BESIDE)
    axes.set_yticks(table.index, [drawing.shorten(name) for name in table["class"]], fontsize=size)
    axes.set(ylim=(-0.6, len(table) - 0.4), xlim=(0, 100))
    axes.grid(False, axis="y")
    overall = score(test)["accuracy"]
    axes.axvline(100 * overall, color=drawing.ORANGE, linewidth=1.6, linestyle="--")
    drawing.annotate_above(axes, 100 * overall, f"overall {format_value(overall, '%')}", color=drawing.ORANGE)
    axes.set_xlabel(f"test accuracy, % (95 % Wilson interval{note})")
    axes.set_title(f"Test accuracy by class: {label(run)}", pad=22)
    return figure


def accuracy_with_intervals(comparison: Comparison) -> Figure:
    """Draw the test accuracy of each run with its 95 % Wilson interval, best on top."""
    table = comparison.table.assign(repeated=comparison.table.duplicated([*LABELED], keep=False))
    table = table.sort_values("accuracy", kind="stable", ignore_index=True)
    figure, axes = drawing.new_figure(comparison.caption, height=2.0 + 0.34 * len(table))
    for rows, style in _by_family(table):
        axes.errorbar(100 * rows["accuracy"], rows.index, xerr=drawing.error_bars(rows, "accuracy"), **style)
    for position, (accuracy, high) in enumerate(zip(table["accuracy"], table["accuracy_high"], strict=True)):
        axes.annotate(format_value(accuracy, "%"), (100 * high, position), (6, 0), fontsize=9, **BESIDE)
    names = [
        label_of(*(row[name] for name in LABELED)) + (f" · seed {row['seed']}" if row["repeated"] else "")
        for row in table.to_dict("records")
    ]
    axes.set_yticks(table.index, names)
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.margins(x=0.12)
    axes.set_xlabel("test accuracy, % (95 % Wilson interval)")
    _title_and_legend(axes, "accuracy_with_intervals")
    return figure


def accuracy_against_cost(comparison: Comparison) -> Figure:
    """Draw test accuracy with its interval over total time (log scale), and the Pareto front.

    A run is on the front if no run at most as long is as accurate. Times below 0.01 s are drawn at 0.01 s.
    """
    table = comparison.table
    table = table.assign(seconds=table["total_seconds"].clip(lower=MIN_SECONDS))
    figure, axes = drawing.new_figure(comparison.caption, width=9.0, height=6.2)
    left, right = table["seconds"].min() / 2, table["seconds"].max() * 2.5
    front = pareto_front(table)
    steps = [*front["seconds"], right], 100 * np.append(front["accuracy"], front["accuracy"].max())
    line: dict[str, Any] = {"color": drawing.GRAY, "linewidth": 1.2, "linestyle": "--", "zorder": 1}
    (front_line,) = axes.step(*steps, where="post", label="Pareto front", **line)
    for rows, style in _by_family(table):
        errors = drawing.error_bars(rows, "accuracy")
        axes.errorbar(rows["seconds"], 100 * rows["accuracy"], yerr=errors, **style)
    time_axis(axes, left, right)
    axes.margins(y=0.12)
    axes.set_xlabel("total time including feature extraction (log scale)")
    axes.set_ylabel("test accuracy, % (95 % Wilson interval)")
    _title_and_legend(axes, "accuracy_against_cost")
    _place_labels(axes, table, front_line)
    return figure


def publish_plots(
    folder: Path, plots: Mapping[str, Plot], result: RunResult | Comparison, up_to_date: Collection[str] = ()
) -> list[str]:
    """Write each of plots of a result to folder as PNG, except the up_to_date ones; return all names."""
    names = {f"{name}.png": plot for name, plot in plots.items()}
    for name, plot in names.items():
        if name not in up_to_date:
            drawing.publish_figure(folder / name, resolve(plot.function), result)
    return list(names)


def time_axis(axes: Axes, left: float, right: float, *, max_ticks: int = 99, vertical: bool = False) -> None:
    """Give axes a log time axis from left to right seconds, with at most max_ticks ticks in s, min and h."""
    ticks = {n * SECONDS[unit]: f"{n:g} {unit}" for unit, numbers in TICKS.items() for n in numbers}
    inside = [seconds for seconds in ticks if left <= seconds <= right]
    inside = inside[:: math.ceil(len(inside) / max_ticks) or 1]
    axis = "y" if vertical else "x"
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (left, right)})
    axes.set(**{f"{axis}ticks": inside, f"{axis}ticklabels": [ticks[seconds] for seconds in inside]})
    axes.minorticks_off()


def _learning_curve(run: RunResult, quantity: str, unit: str = "") -> Figure:
    history = run.history
    figure, axes = drawing.new_figure(caption(run))
    marks: dict[str, Any] = {"marker": "o" if len(history) <= MAX_MARKED_EPOCHS else None, "markersize": 4}
    for split, color, line in (("train", drawing.BLUE, "--"), ("val", drawing.ORANGE, "-")):
        values = history[f"{split}_{quantity}"]
        if values.notna().any():
            axes.plot(history["epoch"], values, color=color, linestyle=line, label=split, **marks)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=f"{quantity}{unit}")
    axes.set_title(f"Learning curve ({quantity}): {label(run)}", pad=22)
    if not axes.lines:
        drawing.write_placeholder(axes, "no epochs: fitted in one step")
        return figure
    if history["seconds"].notna().any():
        axes.set_xlabel(f"epoch ({len(history)} in {format_duration(history['seconds'].max())})")
    axes.legend(loc="best")
    for before, after in itertools.pairwise(history.to_dict("records")):
        if before["stage"] != after["stage"]:
            border = (before["epoch"] + after["epoch"]) / 2
            axes.axvline(border, color=drawing.GRAY, linewidth=1.0, linestyle=":")
            stages = (f"{before['stage']} ◂", "right", -2), (f"▸ {after['stage']}", "left", 2)
            for text, side, shift in stages:
                drawing.annotate_above(axes, border, text, shift=shift, ha=side, color=drawing.GRAY)
    return figure


def _by_family(table: pd.DataFrame) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Return the rows of each family in the table, with the style of their error bars."""
    labels = table["scheme"].map(lambda scheme: drawing.style_of(scheme)["label"])
    groups = [(table[labels == style["label"]], style) for style in drawing.FAMILIES.values()]
    return [(rows, {**drawing.POINTS, **style, "elinewidth": 1.4}) for rows, style in groups if len(rows)]


def _title_and_legend(axes: Axes, plot_name: str) -> None:
    axes.set_title(COMPARISON_PLOTS[plot_name].title, pad=26)
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
    axes.legend(**place, ncols=len(drawing.FAMILIES) + 1, columnspacing=1.2, fontsize=9)


def pareto_front(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are more accurate than all that take at most as long, cheapest first."""
    by_cost = table.sort_values(["seconds", "accuracy"], ascending=[True, False], kind="stable")
    best_so_far = by_cost["accuracy"].cummax().shift(fill_value=-math.inf)
    return by_cost[by_cost["accuracy"] > best_so_far]


def _place_labels(axes: Axes, table: pd.DataFrame, front: Line2D) -> None:
    """Label each scheme where the label overlaps the fewest points, bars, front lines and earlier labels.

    A scheme with several seeds has one label, at its most accurate point.
    """
    cast(Any, axes.figure).draw_without_rendering()  # fixes the layout, as overlaps are measured in pixels
    to_pixels, all_bars = axes.transData.transform, cast("list[LineCollection]", axes.collections)
    to_points = 72 / cast(Figure, axes.figure).dpi
    occupied = [Bbox(to_pixels(bar)).padded(5, 2) for bars in all_bars for bar in bars.get_segments()]
    for (x, y), (next_x, next_y) in itertools.pairwise(to_pixels(front.get_xydata())):
        occupied += [Bbox([[x, y], [next_x, y]]).padded(2), Bbox([[next_x, y], [next_x, next_y]]).padded(2)]
    seeds = table.groupby([*LABELED])["seed"].transform("size")
    labeled = table.assign(seeds=seeds).sort_values("accuracy", ascending=False, kind="stable")
    for row in labeled.drop_duplicates(LABELED).to_dict("records"):
        text = label_of(*(row[name] for name in LABELED))
        text = f"{text} ({row['seeds']} seeds)" if row["seeds"] > 1 else text
        point = (row["seconds"], 100 * row["accuracy"])
        note = axes.annotate(text, point, (0, 0), fontsize=8.5, **drawing.CENTERED, **drawing.OFFSET)
        note.set_in_layout(False)
        box = note.get_window_extent()
        shifts = np.array(LABEL_OFFSETS) / to_points + np.sign(LABEL_OFFSETS) * box.size / 2
        boxes = [box.translated(*shift) for shift in shifts]
        inside = [axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for box in boxes]
        overlaps = [box.count_overlaps(occupied) for box in boxes]
        best = int(np.where(inside, overlaps, len(occupied)).argmin())
        note.set_position(shifts[best] * to_points)
        occupied.append(boxes[best])
        if best >= FIRST_WITH_LEADER:
            leader = {"arrowstyle": "-", "color": drawing.GRAY, "linewidth": 0.6}
            axes.annotate("", point, LABEL_OFFSETS[best], textcoords="offset points", arrowprops=leader)
