"""Tables and pictures of a study: its trials, their course, what mattered, and which settings go together."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import Any, cast

import matplotlib
import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure

from pipeline.formatting import format_interval, format_value, markdown_table
from pipeline.report.drawing import BLUE, GREY, ORANGE, new_figure, say_instead
from pipeline.results.scores import wilson_interval

STATES = COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
WRAPPED = 18  # letters in a line of a tick
SHOWN_TRIALS = 30  # of a study on its page; the table has all


def trial_table(
    trials: Sequence[optuna.trial.FrozenTrial], axes: Sequence[str], n_val: int, reason: str = "reason"
) -> pd.DataFrame:
    """Return a row a trial, the best complete one first, then those that were pruned, then those that failed.

    val_accuracy is that of the finished network on n_val images, with its Wilson interval, NaN where there
    is none; best_epoch_accuracy the highest of its val curve, epochs how long that is. reason is the user
    attribute of a trial that says why it failed.
    """
    rows = [_row(trial, axes, n_val, reason) for trial in trials]
    rows.sort(key=lambda row: (STATES.index(row["state"]), -np.nan_to_num(row["val_accuracy"]), row["trial"]))
    return pd.DataFrame([{"rank": rank, **row} for rank, row in enumerate(rows, start=1)])


def state_of(trial: optuna.trial.FrozenTrial) -> str:
    """Return how a trial ended: complete, pruned or failed."""
    return {"COMPLETE": COMPLETE, "PRUNED": PRUNED}.get(trial.state.name, FAILED)


def _row(trial: optuna.trial.FrozenTrial, axes: Sequence[str], n_val: int, reason: str) -> dict[str, Any]:
    state, curve = state_of(trial), trial.intermediate_values
    value = low = high = math.nan
    if state == COMPLETE:
        value = cast(float, trial.value)
        low, high = wilson_interval(round(value * n_val), n_val)
    return {
        "trial": trial.number,
        "state": state,
        "val_accuracy": value,
        "val_accuracy_low": low,
        "val_accuracy_high": high,
        **{name: trial.params.get(name) for name in axes},
        "best_epoch_accuracy": max(curve.values(), default=math.nan),
        "epochs": len(curve),
        "seconds": round(cast("timedelta", trial.duration).total_seconds(), 1),
        "reason": trial.user_attrs.get(reason, ""),
    }


def draw_history(table: pd.DataFrame, caption: str) -> Figure:
    """Draw val accuracy by trial, the best so far as a line; of what was pruned the best epoch."""
    figure, axes = new_figure(caption)
    rows = table.sort_values("trial")
    complete, pruned, failed = (rows[rows["state"] == state] for state in STATES)
    axes.plot(complete["trial"], 100 * complete["val_accuracy"], "o", color=BLUE, label="complete")
    best_epochs = 100 * pruned["best_epoch_accuracy"]
    axes.plot(pruned["trial"], best_epochs, "x", color=GREY, label="pruned (its best epoch)")
    best = complete["val_accuracy"].cummax()
    axes.step(complete["trial"], 100 * best, where="post", color=ORANGE, label="best so far")
    for number in failed["trial"]:
        axes.axvline(number, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("trial (0: the recipe as it is" + ("; dotted: failed)" if len(failed) else ")"))
    axes.set(ylabel="accuracy on val, %", title="Val accuracy over the trials")
    axes.legend(loc="best")
    return figure


def draw_importance(importance: dict[str, float], caption: str) -> Figure:
    """Draw how much of the differences in val accuracy each setting explains, in per cent."""
    figure, axes = new_figure(caption, height=2.0 + 0.36 * max(3, len(importance)))
    shares = {name: 100 * importance[name] for name in sorted(importance, key=importance.__getitem__)}
    bars = axes.barh(list(shares), list(shares.values()), color=BLUE)
    axes.bar_label(bars, fmt="%.0f %%", padding=4, fontsize=9)
    axes.grid(False, axis="y")
    axes.set_xlabel("share of the variance of val accuracy (functional ANOVA over complete trials), %")
    axes.set_title("Which settings mattered")
    if not shares:
        say_instead(axes, "too few complete trials to tell")
    return figure


def draw_parallel(table: pd.DataFrame, axes: Sequence[str], logs: Sequence[str], caption: str) -> Figure:
    """Draw each complete trial as a line through its settings to its val accuracy; the best ones darker.

    logs names the axes that are drawn by their logarithm.
    """
    rows = table[table["state"] == COMPLETE].iloc[::-1]  # the best is drawn last, above the others
    rows = rows.assign(val_accuracy=100 * rows["val_accuracy"])
    columns = [*axes, "val_accuracy"]
    figure, panel = new_figure(caption, width=max(8.0, 1.9 * len(columns)), height=5.4)
    crossed = [_crossed(rows[name].tolist(), log=name in logs) for name in columns]
    places = np.transpose([at for at, _ in crossed])  # (n, columns)
    colours = matplotlib.colormaps["viridis_r"]
    for line in places[:-1]:
        panel.plot(line, linewidth=1.1, color=colours(0.15 + 0.75 * line[-1]), alpha=0.8)
    panel.plot(places[-1], linewidth=2.4, color=ORANGE)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7, "bbox": box}
    for place, (_, ticks) in enumerate(crossed):
        panel.axvline(place, color=GREY, linewidth=0.8)
        for at, name in ticks:
            panel.annotate(name, (place, at), (3, 0), **style)
    panel.set_xticks(range(len(columns)), [name.replace("_", " ") for name in columns], fontsize=9)
    panel.set(yticks=[], xlim=(-0.1, len(columns) - 0.4))
    panel.grid(False)
    panel.spines["left"].set_visible(False)
    panel.set_title("Complete trials: settings and val accuracy (orange: the best)")
    return figure


def _crossed(values: list[Any], *, log: bool) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return where values cross their axis, (n,) in 0 … 1, and the ticks (place, name) of the axis."""
    if any(isinstance(value, str) for value in values):
        known = sorted({str(value) for value in values}, key=_order)
        places = dict(zip(known, np.linspace(0, 1, len(known)), strict=True))
        ticks = [(at, textwrap.fill(text, WRAPPED)) for text, at in places.items()]
        return np.array([places[str(value)] for value in values]), ticks
    numbers = np.log(values) if log else np.asarray(values, float)
    low, span = numbers.min(), np.ptp(numbers)
    named = [(at, low + at * span) for at in ((0.0, 0.5, 1.0) if span else (0.0,))]
    ticks = [(at, f"{math.exp(value) if log else value:.3g}") for at, value in named]
    return (numbers - low) / (span or 1.0), ticks


def study_markdown(table: pd.DataFrame, axes: Sequence[str], parts: Sequence[str], title: str) -> str:
    """Return the page of a study: words, then its best trials."""
    rows = [
        [
            *(str(row[name]) for name in ("rank", "trial", "state")),
            _accuracy(row),
            *(_setting(row[name]) for name in axes),
            *(str(row["epochs"]), f"{row['seconds']:.0f} s"),
        ]
        for row in table.head(SHOWN_TRIALS).to_dict("records")
    ]
    header = ["rank", "trial", "state", "val accuracy", *(name.replace("_", " ") for name in axes)]
    lines = [f"# {title}", *parts, markdown_table([*header, "epochs", "time"], rows)]
    if len(table) > SHOWN_TRIALS:
        lines.append(f"{len(table) - SHOWN_TRIALS} more trials are in trials.csv.")
    return "\n\n".join(lines) + "\n"


def _accuracy(row: dict[Hashable, Any]) -> str:
    if row["state"] == COMPLETE:
        return format_interval(*(row[f"val_accuracy{end}"] for end in ("", "_low", "_high")))
    return f"({format_value(row['best_epoch_accuracy'], '%')})" if row["state"] == PRUNED else "–"


def _setting(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _order(text: str) -> list[tuple[float, str]]:
    """Return what sorts texts: numbers by their values, one after the other, before words."""
    parts = text.split(",")
    return [(float(part), "") if part.replace(".", "", 1).isdigit() else (math.inf, part) for part in parts]
