"""The path solver reaches the minima of scikit-learn's and SciPy's solvers, for all penalties at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from pipeline.errors import BadInput, Diverged
from pipeline.heads.data import HeadData
from pipeline.heads.fit import fit_head
from pipeline.heads.penalised import TOLERANCE, solve_path
from pipeline.recipes.heads import HEADS

PENALTIES = [1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e6]
TIGHT = 1e-6  # relative norm of the gradient at which the minimum is compared
CLOSE = 1e-4  # nats or hinge units between the loss and that of the reference solver


@pytest.fixture(scope="module")
def separable() -> tuple[np.ndarray, np.ndarray]:
    """Two hundred linearly separable standardized digits with 64 features, some of them constant."""
    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = inputs[:200], labels[:200]
    spread = inputs.std(axis=0)
    scaled = (inputs - inputs.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return scaled.astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="module")
def wide(separable) -> tuple[np.ndarray, np.ndarray]:
    """Forty of those digits, fewer than features, so that the solver works in the span of the digits."""
    inputs, labels = separable
    return inputs[:40], labels[:40]


@pytest.fixture(params=["overlapping", "separable", "wide"])
def problem(request) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, D) and labels (n,), of overlapping or linearly separable classes."""
    problem = request.getfixturevalue(request.param)
    return (problem.train, problem.train_labels) if isinstance(problem, HeadData) else problem


def softmax_loss(inputs, labels, weights, bias, c: float) -> float:
    """Return the mean cross-entropy plus penalty, in float64."""
    logits = inputs.astype(np.float64) @ weights + bias
    top = logits.max(axis=1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(labels)), labels].mean() + penalty(weights, c, len(labels))


def hinge_loss(inputs, labels, weights, bias, c: float) -> float:
    """Return the squared hinge losses summed over classes, averaged over images, plus penalty."""
    signs = 2 * np.eye(weights.shape[1])[labels] - 1
    violation = np.maximum(0, 1 - signs * (inputs.astype(np.float64) @ weights + bias))
    return (violation**2).sum(axis=1).mean() + penalty(weights, c, len(labels))


def penalty(weights, c: float, rows: int) -> float:
    return (weights.astype(np.float64) ** 2).sum() / (2 * c * rows)


def solve(problem, penalties=PENALTIES, loss: str = "softmax", tolerance: float = TIGHT) -> tuple:
    """Return weights (K, D, C) and bias (K, C) of K penalties."""
    inputs, labels = problem
    options = {"classes": int(labels.max()) + 1, "loss": loss, "inverse_penalties": penalties}
    return solve_path(inputs, labels, **options, tolerance=tolerance)[:2]


def lowest_hinge(inputs, labels, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (D, C) and an unpenalized bias that minimize the squared hinge, class by class."""
    inputs, solutions = inputs.astype(np.float64), []
    for signs in (2 * np.eye(labels.max() + 1)[labels] - 1).T:

        def value(point, signs=signs):
            violation = np.maximum(0, 1 - signs * (inputs @ point[:-1] + point[-1]))
            pull = -2 * c * signs * violation
            slope = np.append(point[:-1] + inputs.T @ pull, pull.sum())
            return 0.5 * point[:-1] @ point[:-1] + c * violation @ violation, slope

        options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-10}
        start = np.zeros(inputs.shape[1] + 1)
        with threadpool_limits(1):  # several threads slow small products down
            solutions.append(minimize(value, start, jac=True, method="L-BFGS-B", options=options).x)
    return np.array(solutions)[:, :-1].T, np.array(solutions)[:, -1]


@pytest.mark.parametrize(("tolerance", "max_gap"), [(TIGHT, CLOSE), (TOLERANCE, 5e-4)])
def test_the_loss_of_every_penalty_matches_the_minimum_of_scikit_learn(problem, tolerance, max_gap):
    inputs, labels = problem
    weights, bias = solve(problem, tolerance=tolerance)
    for number, c in enumerate(PENALTIES):
        reference = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(inputs.astype(np.float64), labels)
        lowest = softmax_loss(inputs, labels, reference.coef_.T, reference.intercept_, c)
        loss = softmax_loss(inputs, labels, weights[number], bias[number], c)
        assert abs(loss - lowest) < max_gap, c
        logits = inputs @ weights[number] + bias[number]
        assert (logits.argmax(axis=1) == reference.predict(inputs)).mean() >= 0.995, c


def gradient_norm(inputs, labels, loss: str, weights, bias, c: float) -> float:
    """Return the norm of the gradient of the loss with penalty, in float64."""
    centered = inputs.astype(np.float64) - inputs.mean(axis=0, dtype=np.float64)
    logits = inputs.astype(np.float64) @ weights + bias
    targets = np.eye(weights.shape[1])[labels]
    if loss == "softmax":
        residual = softmax(logits, axis=1) - targets
    else:
        signs = 2 * targets - 1
        residual = -2 * signs * np.maximum(0, 1 - signs * logits)
    slope = centered.T @ residual / len(labels) + weights / (c * len(labels))
    return float(np.linalg.norm([*slope.ravel(), *residual.mean(axis=0)]))


@pytest.mark.parametrize("loss", ["softmax", "squared hinge"])
def test_gradients_are_those_of_the_returned_weights_and_at_most_the_tolerance(problem, loss):
    inputs, labels = problem
    classes = int(labels.max()) + 1
    penalties = np.geomspace(1e-6, 1e3, 19)
    options = {"classes": classes, "loss": loss, "inverse_penalties": penalties}
    weights, bias, gradients = solve_path(inputs, labels, **options)
    assert (gradients <= TOLERANCE).all()
    at_zero = gradient_norm(inputs, labels, loss, np.zeros_like(weights[0]), np.zeros(classes), 1.0)
    for number, c in enumerate(penalties):
        norm = gradient_norm(inputs, labels, loss, weights[number], bias[number], c) / at_zero
        assert norm == pytest.approx(gradients[number], rel=0.05, abs=2e-6), c


def test_the_squared_hinge_matches_the_minimum_of_scipy_with_an_unpenalized_bias(problem):
    inputs, labels = problem
    penalties = [1e-6, 1e-3, 0.1, 10.0]
    weights, bias = solve(problem, penalties, "squared hinge")
    for number, c in enumerate(penalties):
        lowest = hinge_loss(inputs, labels, *lowest_hinge(inputs, labels, c), c)
        loss = hinge_loss(inputs, labels, weights[number], bias[number], c)
        assert abs(loss - lowest) < CLOSE, c


def test_the_squared_hinge_predicts_the_same_as_linear_svc(overlapping):
    inputs, labels = overlapping.train, overlapping.train_labels
    weights, bias = solve((inputs, labels), [0.01], "squared hinge")
    reference = LinearSVC(C=0.01, dual=False, intercept_scaling=1e3, tol=1e-8).fit(inputs, labels)
    scores = inputs @ weights[0] + bias[0]
    np.testing.assert_allclose(scores, reference.decision_function(inputs), atol=0.02)


def test_the_order_and_number_of_penalties_do_not_matter(overlapping):
    problem = overlapping.train, overlapping.train_labels
    ascending, descending, alone = (solve(problem, part) for part in (PENALTIES, PENALTIES[::-1], [1.0]))
    for up, down, single in zip(ascending, descending, alone, strict=True):  # weights, then bias
        np.testing.assert_allclose(up, down[::-1], atol=1e-3)
        np.testing.assert_allclose(up[3], single[0], atol=1e-3)


def test_weaker_penalties_allow_larger_weights(overlapping):
    weights, _ = solve((overlapping.train, overlapping.train_labels))
    sizes = np.linalg.norm(weights.reshape(len(PENALTIES), -1), axis=1)
    assert sizes.tolist() == sorted(sizes)
    assert sizes[0] < 0.01 * sizes[-1]


def test_constant_features_get_no_weight_and_leave_the_others_unchanged(overlapping):
    inputs, labels = overlapping.train, overlapping.train_labels
    joined = np.concatenate([inputs, np.zeros((len(inputs), 3), np.float32)], axis=1)
    (plain, _), (padded, _) = (solve((rows, labels), [1.0]) for rows in (inputs, joined))
    np.testing.assert_allclose(padded[:, :10], plain, atol=1e-3)
    assert np.abs(padded[:, 10:]).max() < 1e-6


def test_an_unknown_loss_is_rejected_with_a_list_of_known_ones(toy):
    with pytest.raises(BadInput, match="unknown loss 'hinge': expected one of softmax, squared hinge"):
        solve((toy.inputs, toy.labels), [1.0], "hinge")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_rejected(toy, value):
    inputs = toy.inputs.copy()
    inputs[3, 1] = value
    with pytest.raises(Diverged, match="regularization path: expected finite inputs, found NaN or inf"):
        solve((inputs, toy.labels), [1.0])


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_two_equal_views_give_the_same_head_as_one(overlapping, with_equal_views, name):
    recipe = dataclasses.replace(HEADS[name], c=0.1)
    one, two = (fit_head(recipe, data) for data in (overlapping, with_equal_views(overlapping)))
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
    assert reports[-1] == ("regularization path", 2, 2, "penalties")
