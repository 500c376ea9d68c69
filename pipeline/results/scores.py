"""Scores: functions of stored probabilities and labels, one row each.

A new score is one function and one row in SCORES or CLASS_SCORES; tables and the comparison show it.
In every function probabilities is (N, C) float32 whose rows sum to 1, labels is (N,) int64 in 0..C-1,
N is at least 1, and the predicted class is the most probable one (the first of equals).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, precision_score, recall_score

from pipeline.errors import BadInput
from pipeline.formatting import markdown_table, shown, shown_interval
from pipeline.results.table import CLASS_SCORES, SCORES
from pipeline.runs.result import EVALUATED, Predictions, RunResult, caption

LOG_LOSS_FLOOR = 1e-7  # Keras's epsilon: a certain mistake costs 16.1 nats, not infinity
CALIBRATION_BINS = 15  # Guo et al. 2017, section 3
CONFIDENCE = 0.95
ALL_CLASSES = "(all)"


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
    """Return the unweighted mean of F1 over the classes that occur in labels or predictions, in 0..1.

    scikit-learn's f1_score(average="macro"); a class without a hit counts 0.
    """
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

    centre = (p + z^2/2n) / (1 + z^2/n), half = z / (1 + z^2/n) * sqrt(p(1-p)/n + z^2/4n^2): the score
    interval of Wilson, Probable Inference, JASA 22 (1927). It stays inside 0..1 and holds for p near either
    end. Raises BadInput unless 0 <= correct <= n, n >= 1 and 0 < confidence < 1.
    """
    if not (0 <= correct <= n and n >= 1 and 0 < confidence < 1):
        raise BadInput(
            f"expected 0 <= correct <= n, n >= 1 and 0 < confidence < 1, "
            f"found correct={correct}, n={n}, confidence={confidence}"
        )
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, spread = correct / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / spread
    half = z / spread * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At p = 0 and p = 1 the formula gives the end itself, but for rounding.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high


def score(predictions: Predictions) -> dict[str, float | int]:
    """Return every row of SCORES by name, "<name>_low" and "<name>_high" for shares, and n, the images.

    Raises BadInput when the split has no images.
    """
    n = len(predictions)
    if n == 0:
        raise BadInput("expected predictions on at least one image, found none; score another split")
    scores: dict[str, float | int] = {}
    for name, row in SCORES.items():
        scores[name] = row.value(predictions.probabilities, predictions.labels)
        if row.share:
            scores[f"{name}_low"], scores[f"{name}_high"] = wilson_interval(round(scores[name] * n), n)
    return {**scores, "n": n}


def class_scores(predictions: Predictions) -> pd.DataFrame:
    """Return long rows (class, metric, value, low, high), each class in turn.

    low and high are NaN where the score is no share of the class's images or the class has none.
    """
    values = {
        name: row.values(predictions.probabilities, predictions.labels) for name, row in CLASS_SCORES.items()
    }
    support = class_support(predictions.probabilities, predictions.labels)
    rows = []
    for number, class_name in enumerate(predictions.class_names):
        for name, row in CLASS_SCORES.items():
            value, n = float(values[name][number]), int(support[number])
            known = row.share and n > 0
            low, high = wilson_interval(round(value * n), n) if known else (math.nan, math.nan)
            rows.append((class_name, name, value, low, high))
    return pd.DataFrame(rows, columns=["class", "metric", "value", "low", "high"])


def reliability(predictions: Predictions) -> pd.DataFrame:
    """Return a row for each bin of `calibration_error` that has images, least confident first.

    confidence and accuracy are the bin's means, fractions in 0..1, images is how many it has.
    """
    bins, confidence, hit = _confidence_bins(predictions.probabilities, predictions.labels)
    images = np.bincount(bins, minlength=CALIBRATION_BINS)
    found = {
        name: np.bincount(bins, weights=values, minlength=CALIBRATION_BINS)[images > 0] / images[images > 0]
        for name, values in (("confidence", confidence), ("accuracy", hit))
    }
    return pd.DataFrame({**found, "images": images[images > 0]})


def metric_table(run: RunResult) -> pd.DataFrame:
    """Return every score of a run in long form: split, class, metric, value, low, high.

    Splits come in the order val, test (an empty val is left out); class is "(all)" for whole-split scores,
    which come first. low and high bound shares with 95 % confidence and are NaN elsewhere.
    """
    tables = []
    for split in EVALUATED:
        predictions = run.split(split)
        if len(predictions) == 0:
            continue
        whole = score(predictions)
        rows = [
            (ALL_CLASSES, name, whole[name], whole.get(f"{name}_low"), whole.get(f"{name}_high"))
            for name in SCORES
        ]
        table = pd.DataFrame(rows, columns=["class", "metric", "value", "low", "high"])
        table = table.astype({"value": float, "low": float, "high": float})
        tables.append(pd.concat([table, class_scores(predictions)]).assign(split=split))
    columns = ["split", "class", "metric", "value", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns]


def metrics_markdown(run: RunResult) -> str:
    """Return a run's scores as Markdown: whole splits side by side, then each class on test."""
    table = metric_table(run).set_index(["split", "class", "metric"])
    splits = [split for split in EVALUATED if split in table.index.get_level_values("split")]
    whole = [
        [row.title, *(_cell(table.loc[(split, ALL_CLASSES, name)], row.unit) for split in splits)]
        for name, row in SCORES.items()
    ]
    classes = [
        [name, *(_cell(table.loc[("test", name, metric)], row.unit) for metric, row in CLASS_SCORES.items())]
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
    """Return the first row of a table with the highest value in a column; its index has no label twice."""
    label: Any = table[column].idxmax()
    return table.loc[label]


def lowest_row(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the first row of a table with the lowest value in a column; its index has no label twice."""
    label: Any = table[column].idxmin()
    return table.loc[label]


def _confidence_bins(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N,) the bin of each image, its confidence max p, and 1.0 where the predicted class is true."""
    confidence = probabilities.max(axis=1).astype(np.float64).clip(0.0, 1.0)
    hit = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bins = (np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1).clip(0, CALIBRATION_BINS - 1)
    return bins, confidence, hit


def _cell(row: pd.Series, unit: str) -> str:
    if math.isnan(row["low"]):
        return shown(row["value"], unit)
    return shown_interval(row["value"], row["low"], row["high"])


def _each_class(probabilities: np.ndarray) -> dict[str, Any]:
    return {"labels": list(range(probabilities.shape[1])), "average": None, "zero_division": 0}
