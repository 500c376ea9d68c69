"""Linear classifiers with an L2 penalty, solved to convergence for a path of penalties at once.

For each inverse penalty c, as in scikit-learn's LogisticRegression and LinearSVC, W and b minimize

    1/n sum_i loss(x_i W + b, y_i) + 1/(2 c n) |W|^2

by L-BFGS (Nocedal & Wright, Numerical Optimization, 2nd edition, algorithm 7.4). All penalties share each
pass over the data. Few passes are needed: features are rotated into the eigenvectors of their covariance,
where the Hessian is nearly diagonal, and the step length is Newton's along the search direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pipeline.errors import Diverged, unknown_name
from pipeline.progress import Progress, silent

Pair = tuple[np.ndarray, np.ndarray, np.ndarray]  # a step, the change of the gradient, 1 / their product

TOLERANCE = 1e-5  # nats (or hinge units): estimated distance of the mean loss from its minimum
MAX_ITERATIONS = 500
MEMORY = 8  # pairs of steps and gradient changes; more pairs cost memory without measurable gain
SMALL_EIGENVALUE = 1e-7  # of the largest eigenvalue: smaller ones are rounding errors
ROUNDING = 1e-6  # of a float32 loss: an increase below this is not a failed step
HALVINGS = 12  # of a step that does not lower the loss, before it is set to zero
SHRINK = 0.75  # converged penalties are dropped once at most this share of the group remains


@dataclass(frozen=True)
class Loss:
    """A convex loss of logits (n, K, C) against one-hot targets (n, 1, C).

    value returns the mean loss (K,) and its gradient (n, K, C) without the factor 1/n; curvature returns the
    second derivative (K,) of the mean loss along a direction (n, K, C). scale is a typical second derivative
    in the middle of training.
    """

    value: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    curvature: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
    scale: float


def _softmax_value(logits: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    logs = tf.nn.log_softmax(logits)
    losses = -tf.reduce_sum(logs * targets, axis=2)
    return tf.reduce_mean(losses, axis=0), tf.exp(logs) - targets


def _softmax_curvature(
    gradient: tf.Tensor, targets: tf.Tensor, logits: tf.Tensor, direction: tf.Tensor
) -> tf.Tensor:
    weighted = (gradient + targets) * direction
    spread = tf.reduce_sum(weighted * direction, axis=2) - tf.reduce_sum(weighted, axis=2) ** 2
    return tf.reduce_mean(spread, axis=0)


def _hinge_value(logits: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    signs = 2 * targets - 1
    violation = tf.nn.relu(1 - signs * logits)
    return tf.reduce_mean(tf.reduce_sum(violation**2, axis=2), axis=0), -2 * signs * violation


def _hinge_curvature(
    gradient: tf.Tensor, targets: tf.Tensor, logits: tf.Tensor, direction: tf.Tensor
) -> tf.Tensor:
    violation = tf.cast(gradient != 0, direction.dtype)
    return tf.reduce_mean(tf.reduce_sum(2 * violation * direction**2, axis=2), axis=0)


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
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D, C) and bias (K, C) float32 for K inverse penalties, in the same order.

    inputs (n, D) float32 should be standardized, labels (n,) in 0 … classes - 1. A penalty has converged
    when a quadratic model puts its mean loss less than tolerance above the minimum; for weak penalties the
    true distance can be ten times larger. The bias is not penalized. Raises BadInput for an unknown loss and
    Diverged when inputs or a loss contain NaN or infinity.
    """
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    basis, eigenvalues, rotated = _rotate(inputs)
    penalties = 1.0 / (np.asarray(inverse_penalties, np.float64) * len(inputs))
    targets = tf.one_hot(labels, classes)[:, None, :]
    path = _Path(rotated, targets, LOSSES[loss], penalties, eigenvalues)
    path.run(tolerance, progress)
    weights = np.einsum("dr,rkc->kdc", basis, path.solution[:-1]).astype(np.float32)
    bias = path.solution[-1] - inputs.mean(axis=0, dtype=np.float64).astype(np.float32) @ weights
    return weights, bias.astype(np.float32)


def _rotate(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, tf.Tensor]:
    """Return basis (D, r), eigenvalues (r + 1,), and the centered inputs in that basis plus a column of 1."""
    mean = inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
    if not np.isfinite(mean).all():
        raise Diverged("regularization path: expected finite inputs, found NaN or inf; extract them again")
    centered = inputs - mean
    if len(inputs) < inputs.shape[1]:  # the Gram matrix has the same eigenvalues as the covariance
        rows = centered.astype(np.float64)
        values, vectors = _large_eigenvalues(rows @ rows.T / len(rows))
        basis = (rows.T @ (vectors / np.sqrt(len(rows) * values))).astype(np.float32)
    else:
        products = tf.matmul(centered, centered, transpose_a=True).numpy()
        values, vectors = _large_eigenvalues(products.astype(np.float64) / len(inputs))
        basis = vectors.astype(np.float32)
    rotated = tf.concat([centered @ basis, tf.ones((len(inputs), 1))], axis=1)
    return basis, np.append(values, 1.0), rotated


def _large_eigenvalues(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues (r,) of a matrix (m, m) that exceed rounding, and their eigenvectors."""
    values, vectors = np.linalg.eigh(symmetric)
    large = values > SMALL_EIGENVALUE * values[-1]
    return values[large], vectors[:, large]


class _Path:
    """L-BFGS on K problems at once; arrays are (r + 1, K, C), with the bias in the last row."""

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
        self.decay = np.broadcast_to(penalties[:, None], (*shape, 1)).astype(np.float32)
        self.decay[-1] = 0  # the bias has no penalty
        self.metric = (loss.scale * eigenvalues[:, None, None] + self.decay).astype(np.float32)
        self.value = tf.function(loss.value, autograph=False)
        self.curvature = tf.function(loss.curvature, autograph=False)

    def run(self, tolerance: float, progress: Progress) -> None:
        """Solve all penalties; converged ones are dropped in groups, so that shapes rarely change."""
        count, iterations = self.solution.shape[1], 0
        remaining, pairs = np.arange(count), list[Pair]()
        while len(remaining) and iterations < MAX_ITERATIONS:
            group = _Group(self, remaining, pairs)
            while iterations < MAX_ITERATIONS:
                group.step()
                iterations += 1
                distance = -0.5 * _inner(group.slope, group.direction())  # quadratic model: g H^-1 g / 2
                unsolved = distance > tolerance
                progress("regularization path", count - int(unsolved.sum()), count, "penalties")
                if unsolved.sum() <= SHRINK * len(remaining):
                    break
            self.solution[:, remaining] = group.solution
            remaining = remaining[unsolved]
            pairs = [(s[:, unsolved], y[:, unsolved], inverse[unsolved]) for s, y, inverse in group.pairs]

    def predict_logits(self, solution: np.ndarray) -> tf.Tensor:
        """Return the logits (n, K, C) of a solution (r + 1, K, C)."""
        product = tf.matmul(self.inputs, solution.reshape(len(solution), -1))
        return tf.reshape(product, (-1, *solution.shape[1:]))

    def gradient(self, residual: tf.Tensor) -> np.ndarray:
        """Return the gradient (r + 1, K, C) of the mean loss without the penalty."""
        flat = tf.reshape(residual, (len(self.inputs), -1))
        product = tf.matmul(self.inputs, flat, transpose_a=True) / len(self.inputs)
        return product.numpy().reshape(-1, *residual.shape[1:])


class _Group:
    """The penalties that have not converged, with their logits, gradients and memory."""

    def __init__(self, path: _Path, which: np.ndarray, pairs: list[Pair]):
        self.path, self.pairs = path, pairs
        self.solution = path.solution[:, which]
        self.decay, self.metric = path.decay[:, which], path.metric[:, which]
        self.logits = path.predict_logits(self.solution)
        self._evaluate()
        self.slope = self._compute_slope()

    def step(self) -> None:
        """Update each penalty's solution by a Newton step along its search direction."""
        direction = self.direction()
        logit_direction = self.path.predict_logits(direction)
        old_solution, old_value, old_logits = self.solution, self.value, self.logits
        curvature = self.path.curvature(self.residual, self.path.targets, self.logits, logit_direction)
        curvature = curvature.numpy() + _inner(direction, self.decay * direction)
        length = -_inner(self.slope, direction) / np.maximum(curvature, 1e-30)
        for halvings_left in reversed(range(HALVINGS)):
            step = length[:, None].astype(np.float32)
            self.solution = old_solution + step * direction
            self.logits = old_logits + step * logit_direction
            self._evaluate()
            worse = self.value > old_value + ROUNDING * np.abs(old_value)
            if not worse.any():
                break
            length = np.where(worse, length / 2 if halvings_left > 1 else 0.0, length)
        slope = self._compute_slope()
        self._remember(step * direction, slope - self.slope)
        self.slope = slope

    def _evaluate(self) -> None:
        value, self.residual = self.path.value(self.logits, self.path.targets)
        self.value = value.numpy() + 0.5 * _inner(self.solution, self.decay * self.solution)
        if not np.isfinite(self.value).all():
            raise Diverged(f"regularization path: the loss is {self.value}; standardize the features")

    def _compute_slope(self) -> np.ndarray:
        return self.path.gradient(self.residual) + self.decay * self.solution

    def _remember(self, step: np.ndarray, change: np.ndarray) -> None:
        product = _inner(step, change)
        usable = product > 1e-12 * _inner(step, self.metric * step)
        inverse = np.where(usable, 1 / np.where(usable, product, 1), 0)  # 0 skips a pair
        self.pairs = [*self.pairs, (step, change, inverse)][-MEMORY:]

    def direction(self) -> np.ndarray:
        """Return the descent direction (r + 1, K, C) from the two-loop recursion."""
        q, weights = self.slope.copy(), []
        for step, change, inverse in reversed(self.pairs):
            weight = inverse * _inner(step, q)
            q -= (weight[:, None] * change).astype(q.dtype)
            weights.append(weight)
        q *= self._scale()[:, None] / self.metric
        for (step, change, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            q += ((weight - inverse * _inner(change, q))[:, None] * step).astype(q.dtype)
        return -q

    def _scale(self) -> np.ndarray:
        """Return the factor (K,) of the inverse metric that fits the last pair (ibid., equation 7.20)."""
        if not self.pairs:
            return np.ones(self.metric.shape[1], np.float32)
        step, change, inverse = self.pairs[-1]
        curved = _inner(change, change / self.metric)
        fitted = _inner(step, change) / np.where(inverse > 0, curved, 1)
        return np.where(inverse > 0, fitted, 1).astype(np.float32)


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the inner product (K,) float64 of arrays (r + 1, K, C) for each K."""
    return np.einsum("rkc,rkc->k", a, b, dtype=np.float64, optimize=False)
