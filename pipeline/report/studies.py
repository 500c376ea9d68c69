"""Tables and plots of a study: its trials, settings, optimization history and importances."""

import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure

from pipeline.formatting import format_share, format_value, markdown_table
from pipeline.report.drawing import BLUE, GRAY, ORANGE, new_figure, publish_figure, write_placeholder
from pipeline.report.sweeps import draw_sweep
from pipeline.results.scores import with_interval
from pipeline.storage.publishing import publish_csv, publish_text

STATES = COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
MAX_TRIALS = 30  # on the page of a study; trials.csv has all


def publish_study(
    folder: Path,
    table: pd.DataFrame,
    axes: Sequence[str],
    importance: dict[str, float],
    paragraphs: Sequence[str],
    caption: str,
) -> list[str]:
    """Write trials.csv, study.md and the plots of a study to folder; return their names.

    axes are the searched settings; paragraphs open the page.
    """
    publish_csv(folder / "trials.csv", table)
    publish_text(folder / "study.md", study_markdown(table, axes, [*paragraphs, f"{caption}."]))
    publish_figure(folder / "history.png", draw_history, table, caption)
    publish_figure(folder / "importance.png", draw_importance, importance, caption)
    complete = table[table["state"] == COMPLETE]
    publish_figure(folder / "settings.png", draw_sweep, complete, axes, "Complete trials", caption)
    return ["trials.csv", "study.md", "history.png", "importance.png", "settings.png"]


def trial_table(trials: Sequence[optuna.trial.FrozenTrial], axes: Sequence[str], n_val: int) -> pd.DataFrame:
    """Return one row for each trial: complete trials first, best first, then pruned, then failed ones.

    val_accuracy is that of the final network on n_val images with its Wilson interval, NaN unless the trial
    is complete. best_epoch_accuracy is the maximum of its val curve, epochs the length of the curve. reason
    is the user attribute of a trial that says why it failed.
    """
    rows = []
    for trial in trials:
        state, curve = state_of(trial), trial.intermediate_values
        value = cast(float, trial.value) if state == COMPLETE else math.nan
        row: dict[str, Any] = {
            "trial": trial.number,
            "state": state,
            **with_interval("val_accuracy", value, n_val),
            **{name: trial.params.get(name) for name in axes},
            "best_epoch_accuracy": max(curve.values(), default=math.nan),
            "epochs": len(curve),
            "seconds": round(cast("timedelta", trial.duration).total_seconds(), 1),
            "reason": trial.user_attrs.get("reason", ""),
        }
        rows.append(row)
    rows.sort(key=lambda row: (STATES.index(row["state"]), -np.nan_to_num(row["val_accuracy"]), row["trial"]))
    return pd.DataFrame([{"rank": rank, **row} for rank, row in enumerate(rows, start=1)])


def state_of(trial: optuna.trial.FrozenTrial) -> str:
    """Return the state of a finished trial: complete, pruned or failed."""
    return {"COMPLETE": COMPLETE, "PRUNED": PRUNED}.get(trial.state.name, FAILED)


def draw_history(table: pd.DataFrame, caption: str) -> Figure:
    """Draw val accuracy by trial (pruned trials: of the best epoch) and the best so far as a line."""
    figure, axes = new_figure(caption)
    rows = table.sort_values("trial")
    complete, pruned = (rows[rows["state"] == state] for state in STATES[:2])
    axes.plot(complete["trial"], 100 * complete["val_accuracy"], "o", color=BLUE, label="complete")
    best_epochs = 100 * pruned["best_epoch_accuracy"]
    axes.plot(pruned["trial"], best_epochs, "x", color=GRAY, label="pruned (best epoch)")
    best = complete["val_accuracy"].cummax()
    axes.step(complete["trial"], 100 * best, where="post", color=ORANGE, label="best so far")
    axes.set_xlabel("trial (0: unchanged recipe)")
    axes.set(ylabel="val accuracy, %", title="Optimization history")
    axes.legend(loc="best")
    return figure


def draw_importance(importance: dict[str, float], caption: str) -> Figure:
    """Draw how much of the variance in val accuracy each setting explains, in percent."""
    figure, axes = new_figure(caption, height=2.0 + 0.36 * max(3, len(importance)))
    shares = {name: 100 * importance[name] for name in sorted(importance, key=importance.__getitem__)}
    bars = axes.barh(list(shares), list(shares.values()), color=BLUE)
    axes.bar_label(bars, fmt="%.0f %%", padding=4, fontsize=9)
    axes.grid(False, axis="y")
    axes.set_xlabel("share of variance in val accuracy, % (functional ANOVA over complete trials)")
    axes.set_title("Hyperparameter importance")
    if not shares:
        write_placeholder(axes, "too few complete trials")
    return figure


def study_markdown(table: pd.DataFrame, axes: Sequence[str], paragraphs: Sequence[str]) -> str:
    """Return the page of a study: the paragraphs, then a table of its best trials."""
    rows = []
    for row in table.head(MAX_TRIALS).to_dict("records"):
        accuracy = f"({format_value(row['best_epoch_accuracy'], '%')})" if row["state"] == PRUNED else "–"
        if row["state"] == COMPLETE:
            accuracy = format_share(row, "val_accuracy")
        first = [str(row[name]) for name in ("rank", "trial", "state")]
        settings = [_format_setting(row[name]) for name in axes]
        rows.append([*first, accuracy, *settings, str(row["epochs"]), f"{row['seconds']:.0f} s"])
    header = ["rank", "trial", "state", "val accuracy", *(name.replace("_", " ") for name in axes)]
    lines = [*paragraphs, markdown_table([*header, "epochs", "time"], rows)]
    if len(table) > MAX_TRIALS:
        lines.append(f"{len(table) - MAX_TRIALS} more trials are in trials.csv.")
    return "\n\n".join(lines) + "\n"


def _format_setting(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
