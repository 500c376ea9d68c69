"""Linear classifiers with an L2 penalty, solved to convergence for a path of penalties.

For each inverse penalty c, as in scikit-learn's LogisticRegression and LinearSVC, W and b minimize

    1/n sum_i w_i loss(x_i W + b, y_i) + 1/(2 c n) |W|^2

with weights w_i of the rows, by default 1, and their sum n, by L-BFGS (Nocedal & Wright, Numerical
Optimization, 2nd edition, algorithm 7.4). In the eigenvectors of the features' covariance and of the mean
Hessian of the logits, the Hessian is nearly diagonal; its diagonal is estimated from some of the rows. A few
penalties are solved from zero, then those between them from interpolated solutions and their neighbors'
memory. All penalties of a group share each pass over the rows, which are read in blocks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from scipy.interpolate import PchipInterpolator
from scipy.special import softmax

from pipeline.errors import Diverged, unknown_name
from pipeline.heads.data import Rows, blocks, scatter
from pipeline.progress import Progress, silent
from pipeline.training.feed import prefetch

TOLERANCE = 1e-4  # norm of the gradient, relative to that at zero
LARGE_BYTES = 64 << 20  # of the inputs; smaller ones are solved to a tenth of the tolerance
MAX_ITERATIONS = 500
MEMORY = 8  # pairs of steps and gradient changes; more pairs cost memory without measurable gain
FIRST_STRIDE = 8  # between penalties that are solved from zero; halved until none are left
SMALL_EIGENVALUE = 1e-7  # of the largest eigenvalue: smaller ones are rounding errors
ROWS = 16_384  # of the inputs that are read and computed at a time
SAMPLE_ROWS, SAMPLE_ITERATIONS = 4096, 10  # rows for the Hessian's diagonal, and how long it is used
SMALL_CURVATURE = 0.05  # of that in the middle of training: estimates below are not trusted
STEPS = 0.1, 1.5  # the shortest and the longest step, in units of L-BFGS's own


@dataclass(frozen=True)
class Loss:
    """A convex loss of logits against one-hot targets.

    gradient returns that of logits (K, C, B) and targets (C, B). hessian returns, for logits (K, C, m) and
    targets (C, m), directions of logits (K, C, C), one a column, and second derivatives (K, C, m) along them.
    scale is a typical second derivative in the middle of training.
    """

    gradient: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    hessian: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    scale: float


def _softmax_gradient(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    exponentials = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    return exponentials / tf.reduce_sum(exponentials, axis=1, keepdims=True) - targets


def _softmax_hessian(logits: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = softmax(logits, axis=1)
    mean = p.mean(axis=2, keepdims=True) * np.eye(p.shape[1]) - p @ p.transpose(0, 2, 1) / p.shape[2]
    _, directions = np.linalg.eigh(mean)
    directions = directions.astype(p.dtype)
    transposed = directions.transpose(0, 2, 1)
    return directions, transposed**2 @ p - (transposed @ p) ** 2


def _hinge_gradient(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    signs = 2 * targets - 1
    return -2 * signs * tf.nn.relu(1 - signs * logits)


def _hinge_hessian(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    directions = np.tile(np.eye(len(targets), dtype=np.float32), (len(logits), 1, 1))
    return directions, 2 * ((2 * targets - 1) * logits < 1).astype(np.float32)


LOSSES = {
    "softmax": Loss(_softmax_gradient, _softmax_hessian, scale=0.07),
    "squared hinge": Loss(_hinge_gradient, _hinge_hessian, scale=0.5),
}


def solve_path(
    inputs: Rows,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    classes: int,
    loss: str,
    inverse_penalties: Sequence[float],
    tolerance: float | None = None,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights (K, D, C), bias (K, C) float32 and gradients (K,) of K inverse penalties, in order.

    inputs (n, D) float32 should be standardized, labels (n,) in 0 … classes - 1, weights (n,) float32 at
    least 0. The bias is not penalized. gradients are norms of the loss's gradient at the solutions, for
    centered inputs, relative to that at zero; a penalty has converged when its norm is at most tolerance: by
    default TOLERANCE, and a tenth of it for inputs below LARGE_BYTES. A solution that has not converged after
    MAX_ITERATIONS is returned with its norm. Raises BadInput for an unknown loss and Diverged for NaN or inf.
    """
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    weights = np.ones(len(labels), np.float32) if weights is None else weights
    unique, places = np.unique(np.asarray(inverse_penalties, np.float64), return_inverse=True)
    tolerance = tolerance or TOLERANCE / (1 if 4 * math.prod(inputs.shape) >= LARGE_BYTES else 10)
    problem = _Problem(inputs, labels, weights, classes, LOSSES[loss])
    path = _Path(problem, 1 / (unique * problem.total))
    solved, stride = np.zeros(0, int), max(1, min(FIRST_STRIDE, len(unique) // 3))
    while len(solved) < len(unique):
        group = np.setdiff1d(np.arange(0, len(unique), stride), solved)
        if len(solved) > 1:
            path.start_from(solved, group)
        path.solve(group, tolerance, progress)
        solved, stride = np.union1d(solved, group), max(1, stride // 2)
    kernels, bias = (values.numpy() for values in problem.kernels(path.solution[places]))
    return kernels.transpose(0, 2, 1), bias, path.norms[places] / path.norm_at_zero


class _Problem:
    """The penalized mean loss of solutions (K, C, r + 1) in the eigenbasis; the bias comes last."""

    def __init__(self, inputs: Rows, labels: np.ndarray, weights: np.ndarray, classes: int, loss: Loss):
        self.mean, self.basis, self.eigenvalues = _eigenbasis(inputs, weights)
        self.labels, self.weights = tf.constant(labels), tf.constant(weights)
        self.classes, self.loss = classes, loss
        self.total = float(weights.sum(dtype=np.float64))
        self.inputs = tf.constant(inputs) if isinstance(inputs, np.ndarray) else inputs
        generator = np.random.Generator(np.random.PCG64(0))
        some = np.sort(generator.permutation(np.flatnonzero(weights))[:SAMPLE_ROWS])
        rows = (inputs[some] - self.mean) @ self.basis
        self.sample = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
        self.sample_weights = weights[some] / weights[some].sum()
        self.sample_targets = np.eye(classes, dtype=np.float32)[:, labels[some]]
        self._sums_of_block = tf.function(self._sum_block, reduce_retracing=True, autograph=False)

    def _sum_block(
        self, rows: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, kernels: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the sums of the slopes (K, C, D) and residuals (K, C) of rows (B, D)."""
        products = tf.matmul(tf.reshape(kernels, (-1, rows.shape[1])), rows, transpose_b=True)
        logits = tf.reshape(products, (-1, self.classes, tf.size(labels))) + bias[..., None]
        residual = weights * self.loss.gradient(logits, tf.one_hot(labels, self.classes, axis=0))
        slopes = tf.matmul(tf.reshape(residual, (-1, tf.size(labels))), rows)
        return tf.reshape(slopes, tf.shape(kernels)), tf.reduce_sum(residual, axis=2)

    def kernels(self, solutions: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Return weights (K, C, D) and bias (K, C) for inputs as they are."""
        kernels = tf.tensordot(solutions[..., :-1], self.basis, [[2], [1]])
        return kernels, solutions[..., -1] - tf.tensordot(kernels, self.mean, 1)

    def gradients(self, solutions: np.ndarray, penalties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradients (K, C, r + 1), and their norms (K,) before the rotation.

        All products are TensorFlow's: the threads of two libraries would wait for the same cores.
        """
        kernels, bias = self.kernels(solutions)
        parts = [
            self._sums_of_block(rows, self.labels[block], self.weights[block], kernels, bias)
            for block, rows in prefetch(blocks(self.inputs, ROWS))
        ]
        slopes, residuals = (tf.add_n(sums) / self.total for sums in zip(*parts, strict=True))
        slopes += _column(penalties) * kernels - residuals[..., None] * self.mean
        norms = tf.sqrt(tf.reduce_sum(slopes**2, (1, 2)) + tf.reduce_sum(residuals**2, 1)).numpy()
        if not np.isfinite(norms).all():
            raise Diverged(f"regularization path: the gradient is {norms}; standardize the features")
        return tf.concat([tf.tensordot(slopes, self.basis, 1), residuals[..., None]], 2).numpy(), norms

    def curvature(self, solutions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return directions of logits (K, C, C), and the Hessian's diagonal (K, C, r + 1) along them."""
        logits = np.tensordot(solutions, self.sample, (2, 1))
        directions, second = self.loss.hessian(logits, self.sample_targets)
        least = SMALL_CURVATURE * self.loss.scale * self.eigenvalues
        return directions, np.maximum(np.tensordot(second * self.sample_weights, self.sample**2, 1), least)


def _eigenbasis(inputs: Rows, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean (D,), large eigenvectors (D, r), their eigenvalues and 1 (r + 1,), all float32."""
    if few := len(inputs) < inputs.shape[1]:  # the Gram matrix has the same eigenvalues as the covariance
        rows = inputs[:].astype(np.float64)
        mean = np.average(rows, axis=0, weights=weights)
        rows = (rows - mean) * np.sqrt(weights)[:, None]
        products = rows @ rows.T
    else:
        mean, products = scatter(inputs, weights)
    if not np.isfinite(products).all():
        raise Diverged("regularization path: expected finite inputs, found NaN or inf; extract them again")
    values, vectors = np.linalg.eigh(products)
    large = values > SMALL_EIGENVALUE * values[-1]
    values, basis = values[large], vectors[:, large]
    if few:
        basis = rows.T @ (basis / np.sqrt(values))
    eigenvalues = np.append(values / weights.sum(dtype=np.float64), 1.0)
    return mean.astype(np.float32), basis.astype(np.float32), eigenvalues.astype(np.float32)


class _Path:
    """L-BFGS on K problems, a group of them at a time; arrays are (K, C, r + 1)."""

    def __init__(self, problem: _Problem, penalties: np.ndarray):
        self.problem, self.penalties = problem, penalties
        shape = (len(penalties), problem.classes, len(problem.eigenvalues))
        self.solution = np.zeros(shape, np.float32)
        self.decay = np.repeat(_column(penalties), shape[2], axis=2)
        self.decay[..., -1] = 0  # the bias has no penalty
        self.steps, self.changes = np.zeros((2, MEMORY, *shape), np.float32)  # a ring for each problem
        self.newest = np.zeros(len(penalties), int)
        self.norm_at_zero = problem.gradients(self.solution[:1], penalties[:1])[1].item() or 1.0
        self.norms = np.full(len(penalties), np.nan)  # of the gradients, NaN before the first evaluation

    def start_from(self, solved: np.ndarray, group: np.ndarray) -> None:
        """Interpolate the solutions of a group between those of solved problems; copy the nearest memory."""
        places = np.log(self.penalties)
        order = solved[np.argsort(places[solved])]
        # Times the approximate Hessian, a solution is nearly the same for all strong penalties.
        typical = self.decay + self.problem.loss.scale * self.problem.eigenvalues
        smooth = PchipInterpolator(places[order], (typical * self.solution)[order])
        inside = np.clip(places[group], places[order[0]], places[order[-1]])
        self.solution[group] = smooth(inside) / typical[group]
        near = solved[np.abs(places[group][:, None] - places[solved]).argmin(axis=1)]
        more = (self.decay[group] - self.decay[near]) * self.steps[:, near]
        self.steps[:, group], self.changes[:, group] = self.steps[:, near], self.changes[:, near] + more
        self.newest[group] = self.newest[near]

    def solve(self, group: np.ndarray, tolerance: float, progress: Progress) -> None:
        """Solve the problems of a group (numbers), from their current solutions."""
        point = self.solution[group]
        slope, self.norms[group] = self.problem.gradients(point, self.penalties[group])
        for iteration in range(MAX_ITERATIONS):
            left = self.norms[group] > tolerance * self.norm_at_zero
            group, point, slope = group[left], point[left], slope[left]
            solved = int(np.isfinite(self.norms).sum()) - len(group)
            progress("regularization path", solved, len(self.penalties), "penalties")
            if not len(group):
                break
            if iteration % SAMPLE_ITERATIONS == 0:
                directions, diagonal = self.problem.curvature(point)
            else:
                directions, diagonal = directions[left], diagonal[left]
            step = self._step(group, slope, directions, diagonal + self.decay[group])
            trial = point + step
            new_slope, self.norms[group] = self.problem.gradients(trial, self.penalties[group])
            self.solution[group], change = trial, new_slope - slope
            self.newest[group] = slots = (self.newest[group] + 1) % MEMORY
            self.steps[slots, group], self.changes[slots, group] = step, change
            # The next point is the minimum along the step, by a quadratic model; so is its gradient.
            length = -_inner(slope, step) / np.maximum(_inner(change, step), 1e-30)
            length = _column(np.clip(length, *STEPS))
            point, slope = point + length * step, slope + length * change

    def _step(
        self, group: np.ndarray, slope: np.ndarray, directions: np.ndarray, metric: np.ndarray
    ) -> np.ndarray:
        """Return the step (K, C, r + 1) from the two-loop recursion."""

        def scaled(q: np.ndarray) -> np.ndarray:
            return directions @ (directions.transpose(0, 2, 1) @ q / metric)

        q, pairs = slope.copy(), []
        for age in range(MEMORY):
            slots = (self.newest[group] - age) % MEMORY
            step, change = self.steps[slots, group], self.changes[slots, group]
            product = _inner(step, change)
            usable = product > 1e-7 * np.sqrt(_inner(step, step) * _inner(change, change))
            inverse = np.where(usable, 1 / np.where(usable, product, 1), 0)  # 0 skips a pair
            weight = inverse * _inner(step, q)
            q -= _column(weight) * change
            pairs.append((step, change, inverse, weight))
        _, change, inverse, _ = pairs[0]
        # The factor of the inverse metric that fits the newest pair (ibid., equation 7.20).
        fitted = inverse * _inner(change, scaled(change))
        q = scaled(q) / _column(np.where(inverse > 0, fitted, 1))
        for step, change, inverse, weight in reversed(pairs):
            q += _column(weight - inverse * _inner(change, q)) * step
        return -q


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None, None].astype(np.float32)


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the inner product (K,) float64 of arrays (K, …) for each K."""
    return np.einsum("kd,kd->k", a.reshape(len(a), -1), b.reshape(len(b), -1)).astype(np.float64)
