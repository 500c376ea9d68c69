"""What several seeds of the same training say: means, intervals over seeds, and what each factor is worth.

The interval of a mean is Student's: m ± t(0.975, n - 1) s / sqrt(n), over n seeds whose results have the
standard deviation s. It says how far another set of seeds may lie, not another set of test images; those
are in each run's own Wilson interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from pipeline.formatting import format_duration, format_share, format_value, markdown_table
from pipeline.results.scores import CONFIDENCE, score
from pipeline.runs.result import RunResult

SCORED = ("val_accuracy", "accuracy")  # of the last weights, fractions; NaN on val that was trained on
COUNTS = ("n_val", "n_test", "n_train", "epochs")
COLUMNS = ("seed", *SCORED, "accuracy_low", "accuracy_high", *COUNTS, "train_seconds")


def replicate_row(run: RunResult) -> dict[str, Any]:
    """Return the values of COLUMNS of a run, in their order."""
    test = score(run.split("test"))
    val = run.split("val")
    recipe = run.recipe
    return {
        "seed": recipe["seed"],
        "val_accuracy": score(val)["accuracy"] if len(val) else math.nan,
        **{name: test[name] for name in ("accuracy", "accuracy_low", "accuracy_high")},
        **{name: recipe[name] for name in COUNTS},
        "train_seconds": run.costs["train_seconds"],
    }


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and Student's 95 % interval; its ends are NaN for one value, all where a value is."""
    mean = statistics.fmean(values)
    spread = pd.Series(values).std(skipna=False) / math.sqrt(len(values))
    half = float(t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * spread)
    return mean, mean - half, mean + half


def summarise(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return a row for each combination of the columns by, in their first order: seeds, means, intervals.

    For each of SCORED the mean over seeds, _low and _high of Student's interval, and the standard deviation
    as _spread (NaN for one seed); seconds is the mean time of a training.
    """
    rows = []
    for names, group in table.groupby(by, sort=False):
        row = {**dict(zip(by, names, strict=True)), "seeds": len(group)}
        for score_name in SCORED:
            mean, *ends = mean_interval(group[score_name].tolist())
            low, high = np.clip(ends, 0, 1)  # a mean of shares cannot leave 0 … 1
            row |= {score_name: mean, f"{score_name}_low": low, f"{score_name}_high": high}
            row[f"{score_name}_spread"] = group[score_name].std(skipna=False)
        row |= {name: group[name].iloc[0] for name in COUNTS}
        rows.append({**row, "seconds": group["train_seconds"].mean()})
    return pd.DataFrame(rows)


def effects(table: pd.DataFrame, factor: str, score_name: str = "accuracy") -> pd.DataFrame:
    """Return what each level of a factor is worth: how far it lies above the mean of all levels.

    table has every combination of its factors with every seed. Within a seed all other factors are averaged
    over and the seed's own mean is taken off; then come mean, low and high over the seeds (Student), in
    fractions of 1. Columns level, effect, low, high.
    """
    cells = table.groupby(["seed", factor], sort=False)[score_name].mean().unstack()
    apart = cells.sub(cells.mean(axis=1), axis=0)
    levels = list(dict.fromkeys(table[factor]))
    rows = [(level, *mean_interval(apart[level].tolist())) for level in levels]
    return pd.DataFrame(rows, columns=["level", "effect", "low", "high"])


def summary_markdown(summary: pd.DataFrame, by: list[str]) -> str:
    """Return a summary as a Markdown table."""
    cells = {
        "seeds": lambda row: str(row["seeds"]),
        "test accuracy, mean (95 % over seeds)": lambda row: format_share(row, "accuracy"),
        "± sd": lambda row: _points(row["accuracy_spread"], ".2f"),
        "val accuracy": lambda row: format_share(row, "val_accuracy"),
        "epochs": lambda row: str(row["epochs"]),
        "training": lambda row: format_duration(row["seconds"]),
    }
    return _markdown(summary, by, cells)


def runs_markdown(table: pd.DataFrame, by: list[str]) -> str:
    """Return a row a run as a Markdown table, with the Wilson interval of its test images."""
    cells = {
        "seed": lambda row: str(row["seed"]),
        "test accuracy (95 % of the images)": lambda row: format_share(row, "accuracy"),
        "val accuracy": lambda row: format_value(row["val_accuracy"], "%"),
        "training": lambda row: format_duration(row["train_seconds"]),
    }
    return _markdown(table, by, cells)


def effects_markdown(found: pd.DataFrame, factor: str) -> str:
    """Return the effects of a factor as a Markdown table, best first."""
    rows = []
    for row in found.sort_values("effect", ascending=False).to_dict("records"):
        effect, low, high = (_points(row[name], "+.1f") for name in ("effect", "low", "high"))
        rows.append([row["level"], effect, f"{low} … {high}"])
    return markdown_table([factor, "points above the mean", "95 % over seeds"], rows)


def _markdown(table: pd.DataFrame, by: list[str], cells: dict[str, Callable[[Any], str]]) -> str:
    """Return a Markdown table: the columns by as they are, then what cells makes of a row, by title."""
    rows = [
        [*(str(row[name]) for name in by), *(cell(row) for cell in cells.values())]
        for row in table.to_dict("records")
    ]
    return markdown_table([*by, *cells], rows)


def _points(value: float, form: str) -> str:
    """Return a fraction in percentage points; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:{form}}"
