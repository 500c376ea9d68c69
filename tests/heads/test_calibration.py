"""The fitted temperature is the true one, and never makes the probabilities worse."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from pipeline.heads.calibration import fit_temperature, probabilities_of
from pipeline.training.classifier import cross_entropy


def sample(temperature: float, count: int = 4000, views: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (V, n, 3) scaled by temperature, and labels sampled from the unscaled softmax."""
    rng = np.random.default_rng(5)
    logits = np.repeat(rng.normal(scale=2, size=(1, count, 3)), views, axis=0)
    exponentials = np.exp(logits[0])
    shares = (exponentials / exponentials.sum(axis=1, keepdims=True)).cumsum(axis=1)
    labels = (rng.random((count, 1)) > shares).sum(axis=1)
    return (temperature * logits).astype(np.float32), labels


@pytest.mark.parametrize("true_temperature", [1e-3, 0.2, 1.0, 7.0, 5e4])
def test_the_true_temperature_is_recovered(true_temperature):
    assert fit_temperature(*sample(true_temperature)) == pytest.approx(true_temperature, rel=0.08)


def test_equal_views_have_the_same_temperature_as_one():
    assert fit_temperature(*sample(3.0, views=3)) == pytest.approx(fit_temperature(*sample(3.0)), rel=2e-3)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("skill", [0.0, 0.3, 5.0])
def test_the_log_loss_is_never_above_that_at_temperature_one(skill, views):
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 4, 50)
    logits = rng.normal(size=(views, 50, 4)).astype(np.float32) + np.float32(skill) * np.eye(4)[labels]
    probabilities = probabilities_of(logits, fit_temperature(logits, labels))
    assert cross_entropy(probabilities, labels) <= cross_entropy(probabilities_of(logits), labels) + 1e-6


def test_logits_that_are_always_correct_have_a_finite_temperature():
    labels = np.arange(30) % 3
    temperature = fit_temperature(np.eye(3, dtype=np.float32)[labels][None], labels)
    assert 0 < temperature < 1
    assert cross_entropy(probabilities_of(np.eye(3)[labels][None], temperature), labels) < 1e-3


def test_constant_logits_give_equal_probabilities():
    logits, labels = np.zeros((1, 9, 3), np.float32), np.arange(9) % 3
    probabilities = probabilities_of(logits, fit_temperature(logits, labels))
    np.testing.assert_allclose(probabilities, 1 / 3, rtol=1e-6)


def test_probabilities_are_the_mean_of_the_softmax_of_the_views():
    logits = np.float32([[[0, np.log(3)]], [[np.log(7), 0]]])
    np.testing.assert_allclose(probabilities_of(logits), [[(1 / 4 + 7 / 8) / 2, (3 / 4 + 1 / 8) / 2]])
    assert probabilities_of(logits).dtype == np.float32


def test_large_logits_do_not_overflow():
    probabilities = probabilities_of(np.float32([[[1e30, 0, -1e30]]]))
    assert probabilities.tolist() == [[1, 0, 0]]


def test_cross_entropy_is_scikit_learns_and_finite_for_a_wrong_prediction_with_probability_one():
    probabilities, labels = np.float32([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]), np.array([1, 0, 0])
    assert cross_entropy(probabilities, labels) == pytest.approx(log_loss(labels, probabilities), rel=1e-6)
    assert cross_entropy(np.float32([[1, 0]]), np.array([1])) == pytest.approx(87.3, abs=0.1)
