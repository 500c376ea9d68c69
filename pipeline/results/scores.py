"""Scores: functions of stored probabilities and labels, one row each.

To add a score, write a function and add a row to SCORES or CLASS_SCORES; all tables then include it.
In every function, probabilities is (N, C) float32 with rows that sum to 1, labels is (N,) int64 in 0..C-1,
N is at least 1, and the predicted class is the most probable one (the first in a tie).
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_score, recall_score

from pipeline.errors import BadInput
from pipeline.extensions import resolve
from pipeline.formatting import format_interval, markdown_table
from pipeline.results.table import CLASS_SCORES, SCORES, Score
from pipeline.runs.result import EVALUATED, Predictions, RunResult, caption

LOG_LOSS_FLOOR = 1e-7  # the epsilon of Keras: a mistake with certainty costs 16.1 nats, not infinity
CALIBRATION_BINS = 15  # Guo et al. 2017, section 3
CONFIDENCE = 0.95
ALL_CLASSES = "(all)"
LONG_COLUMNS = ["class", "metric", "value", "low", "high"]


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return top-1 accuracy, a fraction in 0..1."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean recall, in 0..1, of the classes in labels."""
    return float(class_recall(probabilities, labels)[np.unique(labels)].mean())


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -ln p(true class) in nats, at least 0; p is clipped to at least 1e-7."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(0.0 - np.log(true.clip(LOG_LOSS_FLOOR, 1.0)).mean())  # never -0.0


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error, a fraction in 0..1.

    ECE = sum over bins b of |B_b| / N * |accuracy(B_b) - confidence(B_b)|, with 15 bins of equal width,
    closed on the right, over the confidence max p. Guo et al., On Calibration of Modern Neural Networks,
    ICML 2017, equation 3.
    """
    bins, confidence, correct = _confidence_bins(probabilities, labels)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean F1, in 0..1, of the classes in labels or predictions; 0 without a correct image."""
    return float(f1_score(labels, probabilities.argmax(axis=1), average="macro", zero_division=0))


def class_precision(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) float64 in 0..1: the share of the images predicted as c that are c; 0 if there are none."""
    return precision_score(labels, probabilities.argmax(axis=1), **_class_options(probabilities))


def class_recall(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) float64 in 0..1: the share of the images of c that are predicted as c; 0 without images."""
    return recall_score(labels, probabilities.argmax(axis=1), **_class_options(probabilities))


def class_f1(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) float64 in 0..1: the harmonic mean of precision and recall; 0 if both are 0."""
    return f1_score(labels, probabilities.argmax(axis=1), **_class_options(probabilities))


def class_support(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) int64: the number of images of each class."""
    return np.bincount(labels, minlength=probabilities.shape[1])


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval (low, high) of a proportion, correct out of n, as fractions in 0..1.

    The score interval of Wilson, Probable Inference, JASA 22 (1927). It stays within 0..1 and is accurate
    for proportions near either end. Raises BadInput unless 0 <= correct <= n and n >= 1.
    """
    if not (0 <= correct <= n and n >= 1):
        raise BadInput(f"expected 0 <= correct <= n and n >= 1, received correct={correct}, n={n}")
    interval = binomtest(correct, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def with_interval(name: str, value: float, n: int) -> dict[str, float]:
    """Return a share of n images and its 95 % interval as name, "<name>_low" and "_high"; NaN for NaN."""
    low, high = (math.nan, math.nan) if math.isnan(value) else wilson_interval(round(value * n), n)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def score(predictions: Predictions) -> dict[str, float | int]:
    """Return scores by name, "<name>_low" and "_high" for shares, and n images; raise BadInput if n is 0."""
    n = len(predictions)
    if n == 0:
        raise BadInput("expected predictions on at least one image, received none; score another split")
    scores: dict[str, float | int] = {}
    for name, row in SCORES.items():
        value = resolve(row.function)(predictions.probabilities, predictions.labels)
        scores |= with_interval(name, value, n) if row.share else {name: value}
    return {**scores, "n": n}


def result_row(run: RunResult) -> dict[str, Any]:
    """Return the recipe, the costs, and the scores of a run in one row, with its name and its data set.

    Scores are those on test; those on val are named val_<score> and are NaN if val is empty.
    """
    test, val = score(run.split("test")), run.split("val")
    val_scores = score(val) if len(val) else dict.fromkeys(test, math.nan)
    return {
        **run.recipe,
        **run.costs,
        **test,
        **{f"val_{name}": value for name, value in val_scores.items()},
        "run": run.folder.name,
        "data_set": run.recipe["dataset_title"],
    }


def class_scores(predictions: Predictions) -> pd.DataFrame:
    """Return rows of LONG_COLUMNS, class by class. Shares of no images are NaN, as are low and high
    of other scores."""
    arrays = predictions.probabilities, predictions.labels
    values = {name: resolve(row.function)(*arrays) for name, row in CLASS_SCORES.items()}
    counts, rows = class_support(*arrays).tolist(), []
    for number, (class_name, n) in enumerate(zip(predictions.class_names, counts, strict=True)):
        for name, row in CLASS_SCORES.items():
            value = float(values[name][number])
            share = with_interval(name, value if n else math.nan, n) if row.share else None
            rows.append((class_name, name, *(share.values() if share else (value, math.nan, math.nan))))
    return pd.DataFrame(rows, columns=LONG_COLUMNS)


def reliability(predictions: Predictions) -> pd.DataFrame:
    """Return a row for each non-empty bin of calibration_error, least confident first.

    confidence and accuracy are means over the bin, fractions in 0..1; images is the number of images in it.
    """
    bins, confidence, correct = _confidence_bins(predictions.probabilities, predictions.labels)
    groups = pd.DataFrame({"confidence": confidence, "accuracy": correct}).groupby(bins)
    return groups.mean().assign(images=groups.size()).reset_index(drop=True)


def metric_table(run: RunResult) -> pd.DataFrame:
    """Return every score of a run in long form: split, class, metric, value, low, high.

    val comes before test; an empty val is left out. class is "(all)" for scores of the whole split, which
    come first. low and high are the 95 % interval of shares, NaN for other scores.
    """
    tables = []
    for split in _evaluated(run):
        overall = score(run.split(split))
        rows = [
            (ALL_CLASSES, name, *(overall.get(f"{name}{end}", math.nan) for end in ("", "_low", "_high")))
            for name in SCORES
        ]
        tables += [pd.DataFrame(rows, columns=LONG_COLUMNS).assign(split=split)]
        tables += [class_scores(run.split(split)).assign(split=split)]
    return pd.concat(tables, ignore_index=True)[["split", *LONG_COLUMNS]]


def metrics_markdown(run: RunResult) -> str:
    """Return a run's scores as Markdown: a column for each split, then the scores of each class on test."""
    values = {row[:3]: row[3:] for row in metric_table(run).itertuples(index=False, name=None)}
    splits = _evaluated(run)

    def cell(split: str, name: str, row: Score) -> str:
        value, low, high = values[split, name, row.name]
        return format_interval(value, low, high, row.unit)

    overall = [[row.title, *(cell(split, ALL_CLASSES, row) for split in splits)] for row in SCORES.values()]
    classes = [
        [name, *(cell("test", name, row) for row in CLASS_SCORES.values())]
        for name in run.split("test").class_names
    ]
    lines = [
        f"# {run.recipe['scheme']}: {caption(run)}",
        "Parentheses: 95 % Wilson interval.",
        markdown_table(["score", *splits], overall),
        "## Test scores by class",
        markdown_table(["class", *(row.title for row in CLASS_SCORES.values())], classes),
    ]
    return "\n\n".join(lines) + "\n"


def _evaluated(run: RunResult) -> list[str]:
    return [split for split in EVALUATED if len(run.split(split))]


def _confidence_bins(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of N images its bin, its confidence max p, and 1.0 if it is correct, else 0.0."""
    confidence = probabilities.max(axis=1).astype(np.float64).clip(0.0, 1.0)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bins = (np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1).clip(0, CALIBRATION_BINS - 1)
    return bins, confidence, correct


def _class_options(probabilities: np.ndarray) -> dict[str, Any]:
    return {"labels": list(range(probabilities.shape[1])), "average": None, "zero_division": 0}
