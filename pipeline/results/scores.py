"""Scores: functions of stored probabilities and labels, one row each.

A new score is one function and one row in SCORES or CLASS_SCORES; tables and the comparison show it.
In every function probabilities is (N, C) float32 whose rows sum to 1, labels is (N,) int64 in 0..C-1,
N is at least 1, and the predicted class is the most probable one (the first of equals).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_score, recall_score

from pipeline.errors import BadInput
from pipeline.extensions import resolve
from pipeline.formatting import format_interval, markdown_table
from pipeline.results.table import CLASS_SCORES, SCORES, ClassScore, Score
from pipeline.runs.result import EVALUATED, Predictions, RunResult, caption

LOG_LOSS_FLOOR = 1e-7  # Keras's epsilon: a certain mistake costs 16.1 nats, not infinity
CALIBRATION_BINS = 15  # Guo et al. 2017, section 3
CONFIDENCE = 0.95
ALL_CLASSES = "(all)"
LONG = ["class", "metric", "value", "low", "high"]


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return top-1 accuracy, a fraction in 0..1."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -ln p(true class) in nats, 0 or more; p is clipped at 1e-7 from below."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(true.clip(LOG_LOSS_FLOOR, 1.0)).mean())


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error, a fraction in 0..1.

    ECE = sum over bins b of |B_b| / N * |accuracy(B_b) - confidence(B_b)|, with 15 bins of equal width,
    closed on the right, over the confidence max p. Guo et al., On Calibration of Modern Neural Networks,
    ICML 2017, equation 3.
    """
    bins, confidence, hit = _confidence_bins(probabilities, labels)
    gaps = np.bincount(bins, weights=hit - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean F1, in 0..1, of the classes in labels or predictions; one without a hit counts 0."""
    return float(f1_score(labels, probabilities.argmax(axis=1), average="macro", zero_division=0))


def class_precision(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) float64 in 0..1: the share of the images called c that are c; 0 where none was."""
    return precision_score(labels, probabilities.argmax(axis=1), **_each_class(probabilities))


def class_recall(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) float64 in 0..1: the share of the images of c that are called c; 0 where there are none."""
    return recall_score(labels, probabilities.argmax(axis=1), **_each_class(probabilities))


def class_f1(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) float64 in 0..1: the harmonic mean of precision and recall; 0 where both are 0."""
    return f1_score(labels, probabilities.argmax(axis=1), **_each_class(probabilities))


def class_support(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) int64: how many images of each class there are."""
    return np.bincount(labels, minlength=probabilities.shape[1])


def wilson_interval(correct: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return (low, high), fractions in 0..1, that cover the true rate behind correct hits in n trials.

    The score interval of Wilson, Probable Inference, JASA 22 (1927). It stays inside 0..1 and holds for
    rates near either end. Raises BadInput unless 0 <= correct <= n, n >= 1 and 0 < confidence < 1.
    """
    if not (0 <= correct <= n and n >= 1 and 0 < confidence < 1):
        raise BadInput(
            f"expected 0 <= correct <= n, n >= 1 and 0 < confidence < 1, "
            f"found correct={correct}, n={n}, confidence={confidence}"
        )
    found = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def score(predictions: Predictions) -> dict[str, float | int]:
    """Return every row of SCORES by name, "<name>_low" and "<name>_high" for shares, and n, the images.

    Raises BadInput when the split has no images.
    """
    n = len(predictions)
    if n == 0:
        raise BadInput("expected predictions on at least one image, found none; score another split")
    scores: dict[str, float | int] = {}
    for name, row in SCORES.items():
        scores[name] = resolve(row.function)(predictions.probabilities, predictions.labels)
        if row.share:
            scores[f"{name}_low"], scores[f"{name}_high"] = wilson_interval(round(scores[name] * n), n)
    return {**scores, "n": n}


def class_scores(predictions: Predictions) -> pd.DataFrame:
    """Return rows of LONG, each class in turn; low and high are NaN for what is no share of some images."""
    given = predictions.probabilities, predictions.labels
    values = {name: resolve(row.function)(*given) for name, row in CLASS_SCORES.items()}
    support = class_support(*given)
    rows = []
    for number, class_name in enumerate(predictions.class_names):
        for name, row in CLASS_SCORES.items():
            value, n = float(values[name][number]), int(support[number])
            known = row.share and n > 0
            low, high = wilson_interval(round(value * n), n) if known else (math.nan, math.nan)
            rows.append((class_name, name, value, low, high))
    return pd.DataFrame(rows, columns=LONG)


def reliability(predictions: Predictions) -> pd.DataFrame:
    """Return a row for each bin of `calibration_error` that has images, least confident first.

    confidence and accuracy are the bin's means, fractions in 0..1, images is how many it has.
    """
    bins, confidence, hit = _confidence_bins(predictions.probabilities, predictions.labels)
    found = pd.DataFrame({"confidence": confidence, "accuracy": hit}).groupby(bins)
    return found.mean().assign(images=found.size()).reset_index(drop=True)


def metric_table(run: RunResult) -> pd.DataFrame:
    """Return every score of a run in long form: split, class, metric, value, low, high.

    Splits come in the order val, test (an empty val is left out); class is "(all)" for whole-split scores,
    which come first. low and high bound shares with 95 % confidence and are NaN elsewhere.
    """
    tables = []
    for split in _evaluated(run):
        predictions = run.split(split)
        whole = score(predictions)
        rows = [
            (ALL_CLASSES, name, *(whole.get(f"{name}{end}", math.nan) for end in ("", "_low", "_high")))
            for name in SCORES
        ]
        table = pd.DataFrame(rows, columns=LONG)
        tables.append(pd.concat([table, class_scores(predictions)]).assign(split=split))
    return pd.concat(tables, ignore_index=True)[["split", *LONG]]


def metrics_markdown(run: RunResult) -> str:
    """Return a run's scores as Markdown: whole splits side by side, then each class on test."""
    values = {row[:3]: row[3:] for row in metric_table(run).itertuples(index=False, name=None)}
    splits = _evaluated(run)

    def cell(split: str, name: str, row: Score | ClassScore) -> str:
        value, low, high = values[split, name, row.name]
        return format_interval(value, low, high, row.unit)

    whole = [[row.title, *(cell(split, ALL_CLASSES, row) for split in splits)] for row in SCORES.values()]
    classes = [
        [name, *(cell("test", name, row) for row in CLASS_SCORES.values())]
        for name in run.split("test").class_names
    ]
    lines = [
        f"# {run.recipe['scheme']}: {caption(run)}",
        "Brackets hold 95 % Wilson intervals.",
        markdown_table(["score", *splits], whole),
        "## Each class, on test",
        markdown_table(["class", *(row.title for row in CLASS_SCORES.values())], classes),
    ]
    return "\n\n".join(lines) + "\n"


def highest_row(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the first row of a table with the highest value in a column."""
    return table.nlargest(1, column).iloc[0]


def lowest_row(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the first row of a table with the lowest value in a column."""
    return table.nsmallest(1, column).iloc[0]


def _evaluated(run: RunResult) -> list[str]:
    return [split for split in EVALUATED if len(run.split(split))]


def _confidence_bins(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N,) the bin of each image, its confidence max p, and 1.0 where the predicted class is true."""
    confidence = probabilities.max(axis=1).astype(np.float64).clip(0.0, 1.0)
    hit = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bins = (np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1).clip(0, CALIBRATION_BINS - 1)
    return bins, confidence, hit


def _each_class(probabilities: np.ndarray) -> dict[str, Any]:
    return {"labels": list(range(probabilities.shape[1])), "average": None, "zero_division": 0}
