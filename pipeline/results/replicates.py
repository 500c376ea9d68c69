"""Statistics over seeds of the same training: means, intervals over seeds, and the effect of each factor.

The interval of a mean is Student's: m ± t(0.975, n - 1) s / sqrt(n), over n seeds whose results have the
standard deviation s. It covers the choice of seeds; each run's Wilson interval covers that of test images.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t

from pipeline.formatting import format_duration, format_share, format_value, markdown_table
from pipeline.results.scores import CONFIDENCE

SCORED = ("val_accuracy", "accuracy")  # of the final weights, fractions; NaN for val if val was trained on
COUNTS = ("n_val", "n_test", "n_train", "epochs")
REPLICATE_COLUMNS = ("seed", *SCORED, "accuracy_low", "accuracy_high", *COUNTS, "train_seconds")


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, low and high (Student, 95 %); low and high of one value are NaN, all if a value is."""
    mean = statistics.fmean(values)
    spread = pd.Series(values).std(skipna=False) / math.sqrt(len(values))
    half = float(t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * spread)
    return mean, mean - half, mean + half


def summarize(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return a row for each combination of the columns in by, in order of first appearance.

    Each of SCORED has its mean over seeds, _low and _high of Student's interval, and its standard deviation
    as _spread (NaN for one seed). seeds is the number of seeds, seconds the mean training time.
    """
    rows = []
    for names, group in table.groupby(by, sort=False):
        row = {**dict(zip(by, names, strict=True)), "seeds": len(group)}
        for score_name in SCORED:
            mean, *ends = mean_interval(group[score_name].tolist())
            low, high = np.clip(ends, 0, 1)  # a mean of fractions stays within 0..1
            row |= {score_name: mean, f"{score_name}_low": low, f"{score_name}_high": high}
            row[f"{score_name}_spread"] = group[score_name].std(skipna=False)
        row |= {name: group[name].iloc[0] for name in COUNTS}
        rows.append({**row, "seconds": group["train_seconds"].mean()})
    return pd.DataFrame(rows)


def effects(table: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Return the main effect of each level of a factor: its difference from the mean over all levels.

    table has every combination of its factors with every seed. For each seed, accuracy is averaged over the
    other factors and centered on the seed's mean; effect, low and high are their mean and Student interval
    over seeds, as fractions. Columns level, effect, low, high.
    """
    means = table.groupby(["seed", factor], sort=False)["accuracy"].mean().unstack()
    deviations = means.sub(means.mean(axis=1), axis=0)
    levels = list(dict.fromkeys(table[factor]))
    rows = [(level, *mean_interval(deviations[level].tolist())) for level in levels]
    return pd.DataFrame(rows, columns=["level", "effect", "low", "high"])


def summary_markdown(summary: pd.DataFrame, by: list[str]) -> str:
    """Return a summary as a Markdown table."""
    header, rows = [*by, "seeds", "mean test accuracy (95 % CI over seeds)", "SD", "val accuracy"], []
    for row in summary.to_dict("records"):
        test = format_share(row, "accuracy"), _points(row["accuracy_spread"], ".2f")
        last = format_share(row, "val_accuracy"), row["epochs"], format_duration(row["seconds"])
        rows.append([*(row[name] for name in by), row["seeds"], *test, *last])
    return markdown_table([*header, "epochs", "training time"], rows)


def runs_markdown(table: pd.DataFrame, by: list[str]) -> str:
    """Return a Markdown table with a row for each run and the Wilson interval of its test accuracy."""
    header, rows = [*by, "seed", "test accuracy (95 % Wilson interval)", "val accuracy"], []
    for row in table.to_dict("records"):
        accuracies = format_share(row, "accuracy"), format_value(row["val_accuracy"], "%")
        first = (row[name] for name in (*by, "seed"))
        rows.append([*first, *accuracies, format_duration(row["train_seconds"])])
    return markdown_table([*header, "training time"], rows)


def effects_markdown(table: pd.DataFrame, factor: str) -> str:
    """Return the effects of a factor as a Markdown table, best first."""
    rows = []
    for row in table.sort_values("effect", ascending=False).to_dict("records"):
        effect, low, high = (_points(row[name], "+.1f") for name in ("effect", "low", "high"))
        rows.append([row["level"], effect, f"{low} … {high}"])
    return markdown_table([factor, "effect on test accuracy, points", "95 % CI over seeds"], rows)


def _points(value: float, spec: str) -> str:
    """Return a fraction as percentage points, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:{spec}}"
