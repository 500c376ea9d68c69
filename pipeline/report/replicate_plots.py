"""Pictures of several seeds: each variant's accuracy, its course over time, and what each factor is worth."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.figure import AMBER, BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, empty_figure, new_figure
from pipeline.report.label_placement import GREY
from pipeline.results.replicates import effects, summarise

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
ROW_HEIGHT = 0.42  # inches for a line of the picture
WRAPPED = 28  # letters of a block in a line beside an axis


def draw_replicates(table: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw test accuracy by variant: a dot a seed, the mean with its interval over seeds; best on top."""
    summary = summarise(table, ["variant"]).sort_values("accuracy", kind="stable", ignore_index=True)
    figure, axes = new_figure(caption, height=2.0 + ROW_HEIGHT * len(summary))
    for place, row in enumerate(summary.to_dict("records")):
        values = 100 * table.loc[table["variant"] == row["variant"], "accuracy"]
        axes.plot(values, [place] * len(values), "o", color=GREY, markersize=4, zorder=2)
        _mean(axes, row, place, colour=BLUE, marker="D")
        axes.annotate(
            f"{100 * row['accuracy']:.2f} %", (100 * row["accuracy"], place), (0, 7),
            textcoords="offset points", ha="center", fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(summary)), summary["variant"])
    axes.set_ylim(-0.6, len(summary) - 0.3)
    axes.margins(x=0.1)
    axes.set_xlabel("accuracy on test, % (dots: seeds; diamond: mean with 95 % interval over seeds)")
    axes.set_title(title)
    return figure


def draw_curves(histories: dict[str, list[pd.DataFrame]], caption: str) -> Figure:
    """Draw accuracy against minutes of training: val as solid lines, train as dashed ones, a line a seed.

    Train accuracy is that of varied images while the weights move, so it may lie below val. Where val was
    trained on there is no line of val; what is fitted in one step has no line at all.
    """
    drawn = {
        name: [run for run in runs if len(run)]
        for name, runs in histories.items()
        if any(len(run) for run in runs)
    }
    figure, axes = new_figure(caption, width=9.0, height=5.4)
    for place, (variant, runs) in enumerate(drawn.items()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        for number, history in enumerate(runs):
            minutes = history["seconds"] / 60
            known = history["val_accuracy"].notna().any()
            name = variant if number == 0 else None
            style: dict[str, Any] = {"color": colour, "linewidth": 1.3, "alpha": 0.9}
            if known:
                axes.plot(
                    minutes, 100 * history["val_accuracy"], marker=marker, markersize=3, label=name, **style
                )
            train = None if known else name and f"{name} (train; val is trained on)"
            axes.plot(minutes, 100 * history["train_accuracy"], linestyle="--", label=train, **style)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("accuracy, % (solid: val; dashed: train, as it went)")
    axes.set_title("Accuracy over time")
    if drawn:
        axes.legend(loc="lower right", fontsize=9)
    return figure


def draw_blocks(table: pd.DataFrame, factors: tuple[str, str], title: str, caption: str) -> Figure:
    """Draw every combination of two factors, and what each level of either is worth, with intervals."""
    down, across = factors
    rows, columns = (list(dict.fromkeys(table[name])) for name in factors)
    summary = summarise(table, [down, across])
    figure = empty_figure(caption, width=12.0, height=2.6 + 0.75 * len(rows))
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    panels = figure.subplots(1, 2, width_ratios=(3, 2), sharey=False)
    gap = 0.6 / max(1, len(columns))
    for number, level in enumerate(columns):
        for row in summary[summary[across] == level].to_dict("records"):
            place = rows.index(row[down]) + gap * (number - (len(columns) - 1) / 2)
            label = level if row[down] == rows[0] else None
            _mean(
                panels[0], row, place,
                colour=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)], label=label,
            )  # fmt: skip
    panels[0].set_yticks(range(len(rows)), [textwrap.fill(row, WRAPPED) for row in rows], fontsize=9)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    panels[0].set_xlabel("accuracy on test, % (mean, 95 % interval over seeds)")
    panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
    _draw_effects(panels[1], table, factors)
    return figure


def _draw_effects(panel: Axes, table: pd.DataFrame, factors: tuple[str, str]) -> None:
    places, names, place = [], [], 0
    for number, factor in enumerate(factors):
        for row in effects(table, factor).to_dict("records"):
            error = [[100 * (row["effect"] - row["low"])], [100 * (row["high"] - row["effect"])]]
            known = not np.isnan(error).any()
            panel.errorbar(
                100 * row["effect"], place, xerr=error if known else None, capsize=3, linestyle="none",
                color=(BLUE, ORANGE)[number], marker=("o", "s")[number], markersize=5.5,
            )  # fmt: skip
            places.append(place)
            names.append(row["level"])
            place += 1
        place += 1
    panel.axvline(0, color=GREY, linewidth=1.0, linestyle="--")
    panel.set_yticks(places, [textwrap.fill(name, WRAPPED) for name in names], fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.set_xlabel("points above the mean of all")


def _mean(
    axes: Axes, row: dict[str, Any], place: float, *, colour: str, marker: str, label: str | None = None
) -> None:
    value, low, high = (100 * row[name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
    error = None if np.isnan(low) else [[value - low], [high - value]]
    axes.errorbar(
        value, place, xerr=error, color=colour, marker=marker, capsize=3, linestyle="none", label=label,
        markersize=5.5, zorder=3,
    )  # fmt: skip
