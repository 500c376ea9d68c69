"""Linear classifiers with an L2 penalty, solved to convergence for a whole path of penalties at once.

For each inverse penalty c, as in scikit-learn's LogisticRegression and LinearSVC, W and b minimize

    1/n sum_i loss(x_i W + b, y_i) + 1/(2 c n) |W|^2

by L-BFGS (Nocedal & Wright, Numerical Optimization, 2nd edition, algorithm 7.4). All penalties share each
pass over the data. Few passes are needed because features are rotated into the eigenvectors of their
covariance, where the Hessian is nearly diagonal; a step is a Newton step along its direction; and converged
penalties leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pipeline.errors import Diverged, unknown_name
from pipeline.progress import Progress, silent

Pair = tuple[np.ndarray, np.ndarray, np.ndarray]  # a step, the change of the gradient, 1 / their product

TOLERANCE = 1e-5  # nats (or hinge units) that the mean loss may still lie above its minimum, estimated
MOST_ITERATIONS = 500
MEMORY = 8  # pairs of steps and gradient changes; more cost memory and gained nothing measurable
FLAT = 1e-7  # of the largest eigenvalue: directions below are rounding, not features
ROUNDING = 1e-6  # of a float32 loss, which a step may seem to raise it by
HALVINGS = 12  # of a step that did not lower the loss, before the search along it is given up
SHRINK = 0.75  # converged penalties leave once the others are so small a part of all


@dataclass(frozen=True, eq=False)
class LinearPath:
    """Solutions for K penalties: weights (K, D, C) and bias (K, C) float32, and iterations (K,) of each."""

    weights: np.ndarray
    bias: np.ndarray
    iterations: np.ndarray


@dataclass(frozen=True)
class Loss:
    """A convex loss of answers (n, K, C) against targets (n, 1, C) that are 1 for the class and 0 elsewhere.

    value gives the mean loss (K,) and its gradient (n, K, C) but for the factor 1/n; curvature gives the
    second derivative (K,) of the mean loss along a direction (n, K, C). scale is about how large the second
    derivative is for answers in the middle of the training.
    """

    value: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    curvature: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
    scale: float


def _softmax_value(answers: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    logs = tf.nn.log_softmax(answers)
    losses = -tf.reduce_sum(logs * targets, axis=2)
    return tf.reduce_mean(losses, axis=0), tf.exp(logs) - targets


def _softmax_curvature(
    gradient: tf.Tensor, targets: tf.Tensor, answers: tf.Tensor, direction: tf.Tensor
) -> tf.Tensor:
    weighted = (gradient + targets) * direction
    spread = tf.reduce_sum(weighted * direction, axis=2) - tf.reduce_sum(weighted, axis=2) ** 2
    return tf.reduce_mean(spread, axis=0)


def _hinge_value(answers: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    signs = 2 * targets - 1
    short = tf.nn.relu(1 - signs * answers)
    return tf.reduce_mean(tf.reduce_sum(short**2, axis=2), axis=0), -2 * signs * short


def _hinge_curvature(
    gradient: tf.Tensor, targets: tf.Tensor, answers: tf.Tensor, direction: tf.Tensor
) -> tf.Tensor:
    short = tf.cast(gradient != 0, direction.dtype)
    return tf.reduce_mean(tf.reduce_sum(2 * short * direction**2, axis=2), axis=0)


LOSSES = {
    "softmax": Loss(_softmax_value, _softmax_curvature, scale=0.07),
    "squared hinge": Loss(_hinge_value, _hinge_curvature, scale=0.5),
}


def solve_path(
    inputs: np.ndarray,
    labels: np.ndarray,
    *,
    classes: int,
    loss: str,
    inverse_penalties: Sequence[float],
    tolerance: float = TOLERANCE,
    most_iterations: int = MOST_ITERATIONS,
    progress: Progress = silent,
) -> LinearPath:
    """Return the minimisers for all inverse penalties, in their order.

    inputs (n, D) float32 should be standardised, labels (n,) are in 0 … classes - 1. A penalty counts as
    converged once its mean loss lies less than tolerance above the minimum, by the quadratic model, which can
    be some ten times too hopeful for weak penalties. The bias is not penalised. Raises BadInput for an
    unknown loss and Diverged when inputs or a loss are not finite numbers.
    """
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    basis, eigenvalues, rotated = _rotate(inputs)
    penalties = 1.0 / (np.asarray(inverse_penalties, np.float64) * len(inputs))
    targets = tf.one_hot(labels, classes)[:, None, :]
    path = _Path(rotated, targets, LOSSES[loss], penalties, eigenvalues)
    path.run(tolerance, most_iterations, progress)
    weights = np.einsum("dr,rkc->kdc", basis, path.solution[:-1]).astype(np.float32)
    bias = path.solution[-1] - inputs.mean(axis=0, dtype=np.float64).astype(np.float32) @ weights
    return LinearPath(weights, bias.astype(np.float32), path.iterations)


def _rotate(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, tf.Tensor]:
    """Return basis (D, r), eigenvalues (r + 1,), and the centred inputs in it with a column of ones."""
    mean = inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
    if not np.isfinite(mean).all():
        raise Diverged("path of penalties: expected finite inputs, found NaN or infinity; extract them again")
    centred = inputs - mean
    if len(inputs) < inputs.shape[1]:  # the products of few rows have the same eigenvalues as the covariance
        rows = centred.astype(np.float64)
        values, vectors = _sizeable(rows @ rows.T / len(rows))
        basis = (rows.T @ (vectors / np.sqrt(len(rows) * values))).astype(np.float32)
    else:
        products = tf.matmul(centred, centred, transpose_a=True).numpy()
        values, vectors = _sizeable(products.astype(np.float64) / len(inputs))
        basis = vectors.astype(np.float32)
    rotated = tf.concat([centred @ basis, tf.ones((len(inputs), 1))], axis=1)
    return basis, np.append(values, 1.0), rotated


def _sizeable(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues (r,) of a matrix (m, m) above rounding, and their vectors (m, r)."""
    values, vectors = np.linalg.eigh(symmetric)
    kept = values > FLAT * values[-1]
    return values[kept], vectors[:, kept]


class _Path:
    """L-BFGS on K problems side by side; arrays are (r + 1, K, C), the last row is the bias."""

    def __init__(
        self,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        loss: Loss,
        penalties: np.ndarray,
        eigenvalues: np.ndarray,
    ):
        self.inputs, self.targets = inputs, targets
        shape = (len(eigenvalues), len(penalties))
        self.solution = np.zeros((*shape, targets.shape[2]), np.float32)
        self.iterations = np.zeros(len(penalties), np.int64)
        self.decay = np.broadcast_to(penalties[:, None], (*shape, 1)).astype(np.float32)
        self.decay[-1] = 0  # the bias is free
        self.metric = (loss.scale * eigenvalues[:, None, None] + self.decay).astype(np.float32)
        self.value, self.curvature = (
            tf.function(part, autograph=False) for part in (loss.value, loss.curvature)
        )

    def run(self, tolerance: float, most_iterations: int, progress: Progress) -> None:
        """Solve all penalties; those that have converged leave, in groups, so that shapes change seldom."""
        count, number = self.solution.shape[1], 0
        waiting, pairs = np.arange(count), list[Pair]()
        while len(waiting) and number < most_iterations:
            group = _Group(self, waiting, pairs)
            while number < most_iterations:
                group.step()
                number += 1
                above = -0.5 * _inner(group.slope, group.direction())  # g H^-1 g / 2, of the quadratic model
                kept = above > tolerance
                self.iterations[waiting[kept]] = number
                progress("path of penalties", count - int(kept.sum()), count, "penalties")
                if kept.sum() <= SHRINK * len(waiting):
                    break
            self.solution[:, waiting] = group.solution
            waiting = waiting[kept]
            pairs = [(step[:, kept], change[:, kept], inverse[kept]) for step, change, inverse in group.pairs]

    def answers(self, solution: np.ndarray) -> tf.Tensor:
        """Return the answers (n, K, C) of a solution (r + 1, K, C)."""
        product = tf.matmul(self.inputs, solution.reshape(len(solution), -1))
        return tf.reshape(product, (-1, *solution.shape[1:]))

    def gradient(self, residual: tf.Tensor) -> np.ndarray:
        """Return the gradient (r + 1, K, C) of the mean loss without its penalty."""
        flat = tf.reshape(residual, (len(self.inputs), -1))
        product = tf.matmul(self.inputs, flat, transpose_a=True) / len(self.inputs)
        return product.numpy().reshape(-1, *residual.shape[1:])


class _Group:
    """The penalties that are still being solved, with their answers, gradients and memory."""

    def __init__(self, path: _Path, which: np.ndarray, pairs: list[Pair]):
        self.path, self.pairs = path, pairs
        self.solution = path.solution[:, which]
        self.decay, self.metric = path.decay[:, which], path.metric[:, which]
        self.answers = path.answers(self.solution)
        self._evaluate()
        self.slope = self._slope()

    def step(self) -> None:
        """Move each penalty's solution along its direction, by Newton's step on that line."""
        direction = self.direction()
        moved = self.path.answers(direction)
        base, before, start = self.solution, self.value, self.answers
        curvature = self.path.curvature(self.residual, self.path.targets, self.answers, moved).numpy()
        curvature = curvature + _inner(direction, self.decay * direction)
        length = -_inner(self.slope, direction) / np.maximum(curvature, 1e-30)
        for left in reversed(range(HALVINGS)):
            step = length[:, None].astype(np.float32)
            self.solution, self.answers = base + step * direction, start + step * moved
            self._evaluate()
            worse = self.value > before + ROUNDING * np.abs(before)
            if not worse.any():
                break
            length = np.where(worse, length / 2 if left > 1 else 0.0, length)
        slope = self._slope()
        self._remember(step * direction, slope - self.slope)
        self.slope = slope

    def _evaluate(self) -> None:
        value, self.residual = self.path.value(self.answers, self.path.targets)
        self.value = value.numpy() + 0.5 * _inner(self.solution, self.decay * self.solution)
        if not np.isfinite(self.value).all():
            raise Diverged(f"path of penalties: the loss is {self.value}; are the features standardised?")

    def _slope(self) -> np.ndarray:
        return self.path.gradient(self.residual) + self.decay * self.solution

    def _remember(self, moved: np.ndarray, change: np.ndarray) -> None:
        product = _inner(moved, change)
        sound = product > 1e-12 * _inner(moved, self.metric * moved)
        inverse = np.where(sound, 1 / np.where(sound, product, 1), 0)  # 0 leaves a pair out
        self.pairs = [*self.pairs, (moved, change, inverse)][-MEMORY:]

    def direction(self) -> np.ndarray:
        """Return the two-loop recursion's descent direction (r + 1, K, C)."""
        q, weights = self.slope.copy(), []
        for moved, change, inverse in reversed(self.pairs):
            weight = inverse * _inner(moved, q)
            q -= (weight[:, None] * change).astype(q.dtype)
            weights.append(weight)
        q *= self._scale()[:, None] / self.metric
        for (moved, change, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            q += ((weight - inverse * _inner(change, q))[:, None] * moved).astype(q.dtype)
        return -q

    def _scale(self) -> np.ndarray:
        """Return the factor (K,) of the inverse metric that fits the last pair (ibid., equation 7.20)."""
        if not self.pairs:
            return np.ones(self.metric.shape[1], np.float32)
        moved, change, inverse = self.pairs[-1]
        curved = _inner(change, change / self.metric)
        fitted = _inner(moved, change) / np.where(inverse > 0, curved, 1)
        return np.where(inverse > 0, fitted, 1).astype(np.float32)


def _inner(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the inner product (K,) float64 of arrays (r + 1, K, C) for each K."""
    return np.einsum("rkc,rkc->k", one, other, dtype=np.float64, optimize=False)
