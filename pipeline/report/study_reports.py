"""Reports on replicated trainings, over seeds or over blocks and seeds: tables, pages and plots."""

import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.formatting import format_duration
from pipeline.report import drawing
from pipeline.results import replicates
from pipeline.results.scores import result_row
from pipeline.runs.result import RunResult, caption, read_run
from pipeline.storage.publishing import publish_csv, publish_text

Runs = Sequence[tuple[dict[str, str], Path]]  # factor levels by column, and the folder of the run

NOTE = "Intervals are Student's, over seeds; a single run has the Wilson interval of its test images."
ROW_HEIGHT = 0.42  # inches per row of a plot
LABEL_WIDTH = 28  # characters per line of a tick label


def publish_seeds(folder: Path, runs: Runs, by: Sequence[str]) -> list[str]:
    """Write seeds.csv, seeds.md, seeds.png and curves.png to folder; return their names."""
    results, table = _read(runs, by)
    text = caption(*results)
    histories: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for (levels, _), run in zip(runs, results, strict=True):
        histories[" · ".join(levels.values())].append(run.history)
    summary = replicates.summary_markdown(replicates.summarize(table, [*by]), [*by])
    parts = [summary, "## Runs", replicates.runs_markdown(table, [*by])]
    title = "Test accuracy across seeds"
    publish_csv(folder / "seeds.csv", table)
    publish_text(folder / "seeds.md", _page("Results across seeds", text, parts))
    drawing.publish_figure(folder / "seeds.png", draw_replicates, table, title, text)
    drawing.publish_figure(folder / "curves.png", draw_curves, histories, text)
    return ["seeds.csv", "seeds.md", "seeds.png", "curves.png"]


def publish_blocks(folder: Path, runs: Runs, by: Sequence[str]) -> list[str]:
    """Write blocks.csv, blocks.md and blocks.png to folder; return their names."""
    results, table = _read(runs, by)
    summary = replicates.summarize(table, [*by]).sort_values("accuracy", ascending=False)
    parts = [replicates.summary_markdown(summary, [*by])]
    for factor in by:
        effects = replicates.effects_markdown(replicates.effects(table, factor), factor)
        parts += [f"## Effect of the {factor}", effects]
    duration = format_duration(table["train_seconds"].sum())
    budget = f"{len(table)} runs of {table['epochs'].iloc[0]} epochs in {duration} · {caption(*results)}"
    title = "Effect of each block"
    publish_csv(folder / "blocks.csv", table)
    publish_text(folder / "blocks.md", _page(title, budget, parts))
    drawing.publish_figure(folder / "blocks.png", draw_blocks, table, tuple(by), title, budget)
    return ["blocks.csv", "blocks.md", "blocks.png"]


def _read(runs: Runs, by: Sequence[str]) -> tuple[list[RunResult], pd.DataFrame]:
    results = [read_run(folder) for _, folder in runs]
    pairs = zip(runs, results, strict=True)
    rows = [{**result_row(run), **levels} for (levels, _), run in pairs]
    return results, pd.DataFrame(rows, columns=[*by, *replicates.REPLICATE_COLUMNS])


def _page(title: str, caption: str, parts: list[str]) -> str:
    return "\n\n".join([f"# {title}", *parts, f"{NOTE} {caption}."]) + "\n"


def draw_replicates(table: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw test accuracy by variant, best on top: a dot for each seed, the mean with its interval."""
    summary = replicates.summarize(table, ["variant"])
    summary = summary.sort_values("accuracy", kind="stable", ignore_index=True)
    figure, axes = drawing.new_figure(caption, height=2.0 + ROW_HEIGHT * len(summary))
    means, errors = 100 * summary["accuracy"], drawing.error_bars(summary, "accuracy")
    rows = table["variant"].map(summary["variant"].to_list().index)
    axes.plot(100 * table["accuracy"], rows, "o", color=drawing.GRAY, markersize=4, zorder=2)
    marks: dict[str, Any] = {"color": drawing.BLUE, "marker": "D", "zorder": 3, **drawing.POINTS}
    axes.errorbar(means, summary.index, xerr=errors, **marks)
    for row, mean in enumerate(means):
        axes.annotate(
            f"{mean:.2f} %", (mean, row), (0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    axes.set_yticks(summary.index, summary["variant"])
    axes.set(ylim=(-0.6, len(summary) - 0.3), title=title)
    axes.margins(x=0.1)
    axes.set_xlabel("test accuracy, % (dots: seeds; diamond: mean with 95 % CI over seeds)")
    return figure


def draw_curves(histories: dict[str, list[pd.DataFrame]], caption: str) -> Figure:
    """Draw accuracy over training time: val as solid lines, train as dashed lines, one for each seed.

    Train accuracy is measured during training on augmented images, so it may be below val. There is no val
    line if val was trained on, and no line at all for a head that is fitted in one step.
    """
    figure, axes = drawing.new_figure(caption, width=9.0, height=5.4)
    trained = {name: [run for run in runs if len(run)] for name, runs in histories.items()}
    drawn = {name: runs for name, runs in trained.items() if runs}
    for index, (variant, runs) in enumerate(drawn.items()):
        marks = drawing.SERIES[index % len(drawing.SERIES)]
        style: dict[str, Any] = {"color": marks["color"], "linewidth": 1.3, "alpha": 0.9}
        for number, history in enumerate(runs):
            minutes, name = history["seconds"] / 60, variant if number == 0 else None
            if history["val_accuracy"].notna().any():
                val = {**style, "marker": marks["marker"], "markersize": 3, "label": name}
                axes.plot(minutes, 100 * history["val_accuracy"], **val)
                name = None
            train = name and f"{name} (train; val was trained on)"
            axes.plot(minutes, 100 * history["train_accuracy"], linestyle="--", label=train, **style)
    axes.set_xlim(left=0)
    axes.set(title="Learning curves", xlabel="training time, minutes")
    axes.set_ylabel("accuracy, % (solid: val; dashed: train, during each epoch)")
    if drawn:
        axes.legend(loc="lower right", fontsize=9)
    return figure


def draw_blocks(table: pd.DataFrame, factors: tuple[str, str], title: str, caption: str) -> Figure:
    """Draw the accuracy of every combination of two factors, and the effect of each level, with intervals."""
    down, across = factors
    rows, columns = (list(dict.fromkeys(table[name])) for name in factors)
    summary = replicates.summarize(table, [down, across])
    figure = drawing.empty_figure(caption, width=12.0, height=2.6 + 0.75 * len(rows), title=title)
    means, effects = figure.subplots(1, 2, width_ratios=(3, 2), sharey=False)
    gap = 0.6 / max(1, len(columns))
    for number, level in enumerate(columns):
        cells = summary[summary[across] == level]
        offsets = cells[down].map(rows.index) + gap * (number - (len(columns) - 1) / 2)
        marks = {**drawing.SERIES[number % len(drawing.SERIES)], **drawing.POINTS, "zorder": 3}
        errors = drawing.error_bars(cells, "accuracy")
        means.errorbar(100 * cells["accuracy"], offsets, xerr=errors, label=level, **marks)
    means.set_yticks(range(len(rows)), [textwrap.fill(row, LABEL_WIDTH) for row in rows], fontsize=9)
    means.set_ylim(len(rows) - 0.4, -0.6)
    means.set_xlabel("test accuracy, % (mean with 95 % CI over seeds)")
    means.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
    _draw_effects(effects, table, factors)
    return figure


def _draw_effects(panel: Axes, table: pd.DataFrame, factors: tuple[str, str]) -> None:
    names: dict[int, str] = {}  # by position; a position is left empty between the factors
    for factor, marks in zip(factors, drawing.SERIES, strict=False):
        effects = replicates.effects(table, factor)
        rows = [row + max(names, default=-2) + 2 for row in range(len(effects))]
        errors = drawing.error_bars(effects, "effect", stem="")
        panel.errorbar(100 * effects["effect"], rows, xerr=errors, **marks, **drawing.POINTS)
        names |= zip(rows, effects["level"], strict=True)
    panel.axvline(0, color=drawing.GRAY, linewidth=1.0, linestyle="--")
    panel.set_yticks([*names], [textwrap.fill(name, LABEL_WIDTH) for name in names.values()], fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.set_xlabel("effect: points above the overall mean")
