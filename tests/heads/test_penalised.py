"""Paths of penalties end where scikit-learn's and SciPy's solvers end, all penalties at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from pipeline.errors import BadInput, Diverged
from pipeline.heads.data import HeadData
from pipeline.heads.fit import fit_head
from pipeline.heads.penalised import TOLERANCE, LinearPath, solve_path
from pipeline.recipes.heads import HEADS

PENALTIES = [1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e6]
TIGHT = 1e-7  # tolerance at which the minimum is compared
CLOSE = 1e-4  # nats or hinge units that the loss may then lie above what other solvers find


@pytest.fixture(scope="module")
def separable() -> tuple[np.ndarray, np.ndarray]:
    """Two hundred standardised digits in 64 features, some of them dead, which lines separate."""
    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = inputs[:200], labels[:200]
    spread = inputs.std(axis=0)
    scaled = (inputs - inputs.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return scaled.astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="module")
def wide(separable) -> tuple[np.ndarray, np.ndarray]:
    """Forty of those digits, fewer than their features, so that directions are those of the digits."""
    inputs, labels = separable
    return inputs[:40], labels[:40]


@pytest.fixture(params=["overlapping", "separable", "wide"])
def problem(request) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, D) and labels (n,), in classes that overlap or that lines separate."""
    found = request.getfixturevalue(request.param)
    return (found.train, found.train_labels) if isinstance(found, HeadData) else found


def softmax_loss(inputs, labels, weights, bias, c: float) -> float:
    """Return the mean cross-entropy with its penalty, in float64."""
    answers = inputs.astype(np.float64) @ weights + bias
    top = answers.max(axis=1, keepdims=True)
    logs = answers - top - np.log(np.exp(answers - top).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(labels)), labels].mean() + penalty(weights, c, len(labels))


def hinge_loss(inputs, labels, weights, bias, c: float) -> float:
    """Return the mean over images of the squared hinge losses of all classes, with its penalty."""
    signs = 2 * np.eye(weights.shape[1])[labels] - 1
    short = np.maximum(0, 1 - signs * (inputs.astype(np.float64) @ weights + bias))
    return (short**2).sum(axis=1).mean() + penalty(weights, c, len(labels))


def penalty(weights, c: float, rows: int) -> float:
    return (weights.astype(np.float64) ** 2).sum() / (2 * c * rows)


def solved(problem, penalties=PENALTIES, loss: str = "softmax", tolerance: float = TIGHT) -> LinearPath:
    inputs, labels = problem
    wanted = {"classes": int(labels.max()) + 1, "loss": loss, "inverse_penalties": penalties}
    return solve_path(inputs, labels, **wanted, tolerance=tolerance)


def lowest_hinge(inputs, labels, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (D, C) and a bias without penalty that minimise the squared hinge, class by class."""
    inputs, found = inputs.astype(np.float64), []
    for signs in (2 * np.eye(labels.max() + 1)[labels] - 1).T:

        def value(point, signs=signs):
            short = np.maximum(0, 1 - signs * (inputs @ point[:-1] + point[-1]))
            pull = -2 * c * signs * short
            slope = np.append(point[:-1] + inputs.T @ pull, pull.sum())
            return 0.5 * point[:-1] @ point[:-1] + c * short @ short, slope

        options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-10}
        start = np.zeros(inputs.shape[1] + 1)
        with threadpool_limits(1):  # small products, which threads that wait for each other only slow down
            found.append(minimize(value, start, jac=True, method="L-BFGS-B", options=options).x)
    return np.array(found)[:, :-1].T, np.array(found)[:, -1]


@pytest.mark.parametrize(("tolerance", "close"), [(TIGHT, CLOSE), (TOLERANCE, 5e-4)])
def test_the_loss_of_every_penalty_is_the_minimum_that_scikit_learn_finds(problem, tolerance, close):
    inputs, labels = problem
    path = solved(problem, tolerance=tolerance)
    for number, c in enumerate(PENALTIES):
        other = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(inputs.astype(np.float64), labels)
        lowest = softmax_loss(inputs, labels, other.coef_.T, other.intercept_, c)
        found = softmax_loss(inputs, labels, path.weights[number], path.bias[number], c)
        assert abs(found - lowest) < close, c
        answers = inputs @ path.weights[number] + path.bias[number]
        assert (answers.argmax(axis=1) == other.predict(inputs)).mean() >= 0.995, c


def test_the_squared_hinge_is_the_minimum_that_scipy_finds_with_a_free_bias(problem):
    inputs, labels = problem
    penalties = [1e-6, 1e-3, 0.1, 10.0]
    path = solved(problem, penalties, "squared hinge")
    for number, c in enumerate(penalties):
        lowest = hinge_loss(inputs, labels, *lowest_hinge(inputs, labels, c), c)
        found = hinge_loss(inputs, labels, path.weights[number], path.bias[number], c)
        assert abs(found - lowest) < CLOSE, c


def test_the_squared_hinge_answers_as_linear_svc(overlapping):
    inputs, labels = overlapping.train, overlapping.train_labels
    path = solved((inputs, labels), [0.01], "squared hinge")
    other = LinearSVC(C=0.01, dual=False, intercept_scaling=1e3, tol=1e-8).fit(inputs, labels)
    found = inputs @ path.weights[0] + path.bias[0]
    np.testing.assert_allclose(found, other.decision_function(inputs), atol=0.02)


def test_the_order_and_the_company_of_penalties_do_not_matter(overlapping):
    problem = overlapping.train, overlapping.train_labels
    forwards, backwards, alone = (solved(problem, part) for part in (PENALTIES, PENALTIES[::-1], [1.0]))
    np.testing.assert_allclose(forwards.weights, backwards.weights[::-1], atol=1e-3)
    np.testing.assert_allclose(forwards.bias, backwards.bias[::-1], atol=1e-3)
    np.testing.assert_allclose(forwards.weights[3], alone.weights[0], atol=1e-3)
    assert forwards.iterations.shape == (len(PENALTIES),)


def test_weaker_penalties_allow_larger_weights(overlapping):
    path = solved((overlapping.train, overlapping.train_labels))
    sizes = np.linalg.norm(path.weights.reshape(len(PENALTIES), -1), axis=1)
    assert sizes.tolist() == sorted(sizes)
    assert sizes[0] < 0.01 * sizes[-1]


def test_dead_features_get_no_weight_and_change_no_other(overlapping):
    inputs, labels = overlapping.train, overlapping.train_labels
    joined = np.concatenate([inputs, np.zeros((len(inputs), 3), np.float32)], axis=1)
    plain, padded = solved((inputs, labels), [1.0]), solved((joined, labels), [1.0])
    np.testing.assert_allclose(padded.weights[:, :10], plain.weights, atol=1e-3)
    assert np.abs(padded.weights[:, 10:]).max() < 1e-6


def test_an_unknown_loss_is_refused_with_those_that_are_known(toy):
    with pytest.raises(BadInput, match="unknown loss 'hinge': expected one of softmax, squared hinge"):
        solved((toy.inputs, toy.labels), [1.0], "hinge")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_numbers_are_refused(toy, value):
    inputs = toy.inputs.copy()
    inputs[3, 1] = value
    with pytest.raises(Diverged, match="path of penalties: expected finite inputs, found NaN or infinity"):
        solved((inputs, toy.labels), [1.0])


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_two_views_that_are_equal_give_the_head_of_one(overlapping, seen_twice, name):
    recipe = dataclasses.replace(HEADS[name], c=0.1)
    one, two = (fit_head(recipe, data) for data in (overlapping, seen_twice(overlapping)))
    for before, after in zip(
        one.get_layer("logits").get_weights(), two.get_layer("logits").get_weights(), strict=True
    ):
        np.testing.assert_allclose(after, before, atol=2e-3)


def test_progress_ends_with_every_penalty_solved(overlapping):
    reports = []
    solve_path(
        overlapping.train,
        overlapping.train_labels,
        classes=4,
        loss="softmax",
        inverse_penalties=[0.1, 10.0],
        progress=lambda *report: reports.append(report),
    )
    assert reports[-1] == ("path of penalties", 2, 2, "penalties")
