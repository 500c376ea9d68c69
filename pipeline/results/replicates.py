"""What several seeds of the same training say: means, intervals over seeds, and what each factor is worth.

The interval of a mean is Student's: m ± t(0.975, n - 1) s / sqrt(n), over n seeds whose results have the
standard deviation s. It says how far another set of seeds may lie, not another set of test images; those
are in each run's own Wilson interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
from scipy.stats import t

from pipeline.formatting import markdown_table, shown, shown_interval, shown_seconds
from pipeline.results.scores import CONFIDENCE, score
from pipeline.runs.result import RunResult

SCORED = ("val_accuracy", "accuracy")  # of the last weights, fractions; NaN on val that was trained on
COLUMNS = (
    "seed",
    *SCORED,
    "accuracy_low",
    "accuracy_high",
    "n_val",
    "n_test",
    "n_train",
    "epochs",
    "train_seconds",
)


def replicate_row(run: RunResult) -> dict[str, Any]:
    """Return the values of COLUMNS of a run, in their order."""
    test = score(run.split("test"))
    val = run.split("val")
    recipe = run.recipe
    return {
        "seed": recipe["seed"],
        "val_accuracy": score(val)["accuracy"] if len(val) else math.nan,
        **{name: test[name] for name in ("accuracy", "accuracy_low", "accuracy_high")},
        **{name: recipe[name] for name in ("n_val", "n_test", "n_train", "epochs")},
        "train_seconds": run.costs["train_seconds"],
    }


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of values and Student's 95 % interval of it.

    Its ends are NaN for a single value; all is NaN where a value is.
    """
    mean = statistics.fmean(values)
    if len(values) < 2 or math.isnan(mean):
        return mean, math.nan, math.nan

    spread = statistics.stdev(values) / math.sqrt(len(values))
    half = float(t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * spread
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
            values = group[score_name].tolist()
            mean, low, high = mean_interval(values)
            row |= {score_name: mean, f"{score_name}_low": _share(low), f"{score_name}_high": _share(high)}
            row[f"{score_name}_spread"] = _spread(values)
        row |= {name: group[name].iloc[0] for name in ("n_val", "n_test", "n_train", "epochs")}
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
    header = [*by, "seeds", "test accuracy, mean (95 % over seeds)", "± sd", "val accuracy", "epochs"]
    rows = [
        [
            *(str(row[name]) for name in by),
            str(row["seeds"]),
            _interval(row, "accuracy"),
            _points(row["accuracy_spread"]),
            _interval(row, "val_accuracy"),
            str(row["epochs"]),
            shown_seconds(row["seconds"]),
        ]
        for row in summary.to_dict("records")
    ]
    return markdown_table([*header, "training"], rows)


def runs_markdown(table: pd.DataFrame, by: list[str]) -> str:
    """Return a row a run as a Markdown table, with the Wilson interval of its test images."""
    header = [*by, "seed", "test accuracy (95 % of the images)", "val accuracy", "training"]
    rows = [
        [
            *(str(row[name]) for name in by),
            str(row["seed"]),
            shown_interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"]),
            shown(row["val_accuracy"], "%"),
            shown_seconds(row["train_seconds"]),
        ]
        for row in table.to_dict("records")
    ]
    return markdown_table(header, rows)


def effects_markdown(found: pd.DataFrame, factor: str) -> str:
    """Return the effects of a factor as a Markdown table, best first."""
    rows = [
        [row["level"], _signed(row["effect"]), f"{_signed(row['low'])} … {_signed(row['high'])}"]
        for row in found.sort_values("effect", ascending=False).to_dict("records")
    ]
    return markdown_table([factor, "points above the mean", "95 % over seeds"], rows)


def _interval(row: dict[Hashable, Any], name: str) -> str:
    """Return a mean with its interval in per cent, without one where there is a single seed."""
    if math.isnan(row[f"{name}_low"]):
        return shown(row[name], "%")
    return shown_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _points(value: float) -> str:
    """Return a fraction in percentage points, such as 0.24; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def _share(value: float) -> float:
    """Return an end of an interval within 0 … 1, which a mean of shares cannot leave."""
    return value if math.isnan(value) else min(1.0, max(0.0, value))


def _spread(values: list[float]) -> float:
    known = len(values) > 1 and not math.isnan(sum(values))
    return statistics.stdev(values) if known else math.nan


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.1f}"
