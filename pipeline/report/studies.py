"""Tables and pictures of a study: its trials, their course, what mattered, and which settings go together."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import matplotlib
import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure

from pipeline.formatting import markdown_table, shown, shown_interval
from pipeline.report.figure import BLUE, ORANGE, empty_figure, new_figure
from pipeline.report.label_placement import GREY
from pipeline.results.scores import wilson_interval

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
WRAPPED = 18  # letters in a line of a tick
OWN_COLUMNS = ("rank", "trial", "state", "val_accuracy", "val_accuracy_low", "val_accuracy_high")
LAST_COLUMNS = ("best_epoch_accuracy", "epochs", "seconds", "reason")
SHOWN_TRIALS = 30  # of a study on its page; the table has all


def trial_table(
    trials: Sequence[optuna.trial.FrozenTrial], axes: Sequence[str], n_val: int, reason: str = "reason"
) -> pd.DataFrame:
    """Return a row a trial, the best complete one first, then those that were pruned, then those that failed.

    val_accuracy is that of the finished network on n_val images, with its Wilson interval, NaN where there
    is none; best_epoch_accuracy the highest of its val curve, epochs how long that is. reason is the user
    attribute of a trial that says why it failed.
    """
    order = {COMPLETE: 0, PRUNED: 1, FAILED: 2}
    rows = [_row(trial, axes, n_val, reason) for trial in trials]
    rows.sort(key=lambda row: (order[row["state"]], -_or(row["val_accuracy"], 0.0), row["trial"]))
    for rank, row in enumerate(rows, start=1):
        row["rank"] = rank
    return pd.DataFrame(rows, columns=[*OWN_COLUMNS, *axes, *LAST_COLUMNS])


def state_of(trial: optuna.trial.FrozenTrial) -> str:
    """Return how a trial ended: complete, pruned or failed."""
    return {"COMPLETE": COMPLETE, "PRUNED": PRUNED}.get(trial.state.name, FAILED)


def _row(trial: optuna.trial.FrozenTrial, axes: Sequence[str], n_val: int, reason: str) -> dict[str, Any]:
    state = state_of(trial)
    value = cast(float, trial.value) if state == COMPLETE else math.nan
    low, high = wilson_interval(round(value * n_val), n_val) if state == COMPLETE else (math.nan, math.nan)
    curve = trial.intermediate_values
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
    complete, pruned = (rows[rows["state"] == state] for state in (COMPLETE, PRUNED))
    axes.plot(complete["trial"], 100 * complete["val_accuracy"], "o", color=BLUE, label="complete")
    best_epochs = 100 * pruned["best_epoch_accuracy"]
    axes.plot(pruned["trial"], best_epochs, "x", color=GREY, label="pruned (its best epoch)")
    best = complete["val_accuracy"].cummax()
    axes.step(complete["trial"], 100 * best, where="post", color=ORANGE, label="best so far")
    failed = rows[rows["state"] == FAILED]
    for number in failed["trial"]:
        axes.axvline(number, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("trial (0: the recipe as it is" + ("; dotted: failed)" if len(failed) else ")"))
    axes.set_ylabel("accuracy on val, %")
    axes.set_title("Val accuracy over the trials")
    axes.legend(loc="best")
    return figure


def draw_importance(importance: dict[str, float], caption: str) -> Figure:
    """Draw how much of the differences in val accuracy each setting explains, in per cent."""
    figure, axes = new_figure(caption, height=2.0 + 0.36 * max(3, len(importance)))
    names = sorted(importance, key=lambda name: importance[name])
    axes.barh(names, [100 * importance[name] for name in names], color=BLUE)
    for place, name in enumerate(names):
        axes.annotate(
            f"{100 * importance[name]:.0f} %", (100 * importance[name], place), (4, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axes.grid(False, axis="y")
    axes.set_xlabel("share of the variance of val accuracy (functional ANOVA over complete trials), %")
    axes.set_title("Which settings mattered")
    if not names:
        words = "too few complete trials to tell"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
    return figure


def draw_parallel(table: pd.DataFrame, axes: Sequence[str], logs: Sequence[str], caption: str) -> Figure:
    """Draw each complete trial as a line through its settings to its val accuracy; the best ones darker.

    logs names the axes that are drawn by their logarithm.
    """
    rows = table[table["state"] == COMPLETE].iloc[::-1]  # the best is drawn last, above the others
    columns = [*axes, "val_accuracy"]
    figure = empty_figure(caption, width=max(8.0, 1.9 * len(columns)), height=5.4)
    panel = figure.add_subplot()
    places, ticks = _places(rows, columns, logs)
    values = rows["val_accuracy"].to_numpy()
    spread = np.ptp(values) or 1.0
    colours = matplotlib.colormaps["viridis_r"]
    for number in range(len(rows)):
        share = (values[number] - values.min()) / spread
        style = {"color": ORANGE, "linewidth": 2.4} if number == len(rows) - 1 else {"linewidth": 1.1}
        colour = {} if "color" in style else {"color": colours(0.15 + 0.75 * share), "alpha": 0.8}
        panel.plot(range(len(columns)), places[number], **style, **colour)
    for place, names in enumerate(ticks):
        panel.axvline(place, color=GREY, linewidth=0.8)
        for at, name in names:
            panel.annotate(
                name, (place, at), (3, 0), textcoords="offset points", va="center", fontsize=7,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
            )  # fmt: skip
    panel.set_xticks(range(len(columns)), [name.replace("_", " ") for name in columns], fontsize=9)
    panel.set_yticks([])
    panel.set_xlim(-0.1, len(columns) - 0.4)
    panel.grid(False)
    panel.spines["left"].set_visible(False)
    panel.set_title("Complete trials: settings and val accuracy (orange: the best)")
    return figure


def _places(rows: pd.DataFrame, columns: Sequence[str], logs: Sequence[str]) -> tuple[Any, list[Any]]:
    """Return where rows cross axes (n, columns), 0 … 1, and the ticks (place, name) of each axis."""
    places, ticks = np.zeros((len(rows), len(columns))), []
    for number, name in enumerate(columns):
        values = rows[name].tolist()
        if any(isinstance(value, str) for value in values):
            known = sorted({str(value) for value in values}, key=_order)
            step = 1 / max(1, len(known) - 1)
            places[:, number] = [known.index(str(value)) * step for value in values]
            ticks.append([(at * step, textwrap.fill(text, WRAPPED)) for at, text in enumerate(known)])
            continue
        numbers = np.log(values) if name in logs else np.asarray(values, float)
        low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 1.0)
        places[:, number] = (numbers - low) / ((high - low) or 1.0)
        named = [(low, 0.0), ((low + high) / 2, 0.5), (high, 1.0)] if high > low else [(low, 0.0)]
        unit = 100 if name == "val_accuracy" else 1
        texts = [f"{unit * (math.exp(value) if name in logs else value):.3g}" for value, _ in named]
        ticks.append(list(zip((at for _, at in named), texts, strict=True)))
    return places, ticks


def study_markdown(table: pd.DataFrame, axes: Sequence[str], parts: Sequence[str], title: str) -> str:
    """Return the page of a study: words, then its best trials."""
    rows = [
        [
            str(row["rank"]),
            str(row["trial"]),
            row["state"],
            _accuracy(row),
            *(_setting(row[name]) for name in axes),
            str(row["epochs"]),
            f"{row['seconds']:.0f} s",
        ]
        for row in table.head(SHOWN_TRIALS).to_dict("records")
    ]
    header = ["rank", "trial", "state", "val accuracy", *(name.replace("_", " ") for name in axes)]
    lines = [f"# {title}", *parts, markdown_table([*header, "epochs", "time"], rows)]
    if len(table) > SHOWN_TRIALS:
        lines.append(f"{len(table) - SHOWN_TRIALS} more trials are in trials.csv.")
    return "\n\n".join(lines) + "\n"


def _accuracy(row: dict[str, Any]) -> str:
    if row["state"] == COMPLETE:
        return shown_interval(*(row[f"val_accuracy{end}"] for end in ("", "_low", "_high")))
    return f"({shown(row['best_epoch_accuracy'], '%')})" if row["state"] == PRUNED else "–"


def _setting(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _order(text: str) -> list[tuple[float, str]]:
    """Return what sorts texts: numbers by their values, one after the other, before words."""
    parts = text.split(",")
    return [(float(part), "") if part.replace(".", "", 1).isdigit() else (math.inf, part) for part in parts]


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value
