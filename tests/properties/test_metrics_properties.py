"""The metrics match scikit-learn and statsmodels for any probabilities and labels."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from pipeline.results.scores import (
    CALIBRATION_BINS,
    LOG_LOSS_FLOOR,
    accuracy,
    calibration_error,
    class_f1,
    class_precision,
    class_recall,
    class_support,
    log_loss,
    macro_f1,
    reliability,
    wilson_interval,
)
from pipeline.runs.result import Predictions


@st.composite
def predictions(draw):
    """Return probabilities (N, C) float32 and labels (N,) of a few images, some of them 0, 1 or tied."""
    classes, images = draw(st.integers(2, 5)), draw(st.integers(1, 30))
    rows = st.lists(st.integers(0, 6), min_size=classes, max_size=classes).filter(any)
    weights = np.array(draw(st.lists(rows, min_size=images, max_size=images)), np.float64)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), np.array(labels)


@given(predictions())
def test_scores_match_scikit_learn(drawn):
    probabilities, labels = drawn
    predicted, classes = probabilities.argmax(axis=1), list(range(probabilities.shape[1]))
    assert accuracy(probabilities, labels) == sklearn.metrics.accuracy_score(labels, predicted)
    clipped = np.clip(probabilities.astype(np.float64), LOG_LOSS_FLOOR, 1)
    expected = -np.log(clipped[np.arange(len(labels)), labels]).mean()
    assert log_loss(probabilities, labels) == pytest.approx(expected)
    shared = {"average": "macro", "zero_division": 0}
    assert macro_f1(probabilities, labels) == pytest.approx(
        sklearn.metrics.f1_score(labels, predicted, **shared)
    )
    each = {"average": None, "zero_division": 0, "labels": classes}
    for score, reference in (
        (class_precision, sklearn.metrics.precision_score),
        (class_recall, sklearn.metrics.recall_score),
        (class_f1, sklearn.metrics.f1_score),
    ):
        np.testing.assert_allclose(score(probabilities, labels), reference(labels, predicted, **each))
    assert class_support(probabilities, labels).tolist() == [(labels == number).sum() for number in classes]


@given(predictions())
def test_log_loss_matches_scikit_learn_if_no_probability_is_zero(drawn):
    probabilities, labels = drawn
    soft = probabilities.astype(np.float64) + 0.1
    soft /= soft.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(labels, soft, labels=range(soft.shape[1]))
    assert log_loss(soft, labels) == pytest.approx(expected)


@given(predictions())
def test_calibration_error_is_the_weighted_gap_of_its_bins(drawn):
    probabilities, labels = drawn
    names = tuple(str(number) for number in range(probabilities.shape[1]))
    index = np.arange(len(labels))
    bins = reliability(Predictions(index, index.astype(str), labels, probabilities, names))
    gaps = bins["images"] / len(labels) * (bins["accuracy"] - bins["confidence"]).abs()
    assert gaps.sum() == pytest.approx(calibration_error(probabilities, labels))
    assert bins["images"].sum() == len(labels) and len(bins) <= CALIBRATION_BINS
    assert bins["confidence"].is_monotonic_increasing


@given(st.integers(1, 10**6), st.data())
def test_wilson_interval_matches_statsmodels_and_contains_the_share(n, data):
    correct = data.draw(st.integers(0, n))
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    np.testing.assert_allclose((low, high), proportion_confint(correct, n, method="wilson"), atol=1e-9)
