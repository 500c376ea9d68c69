"""Linear classifiers with an L2 penalty, solved to convergence for a path of penalties at once.

For each inverse penalty c, as in scikit-learn's LogisticRegression and LinearSVC, W and b minimize

    1/n sum_i w_i loss(x_i W + b, y_i) + 1/(2 c n) |W|^2

by L-BFGS (Nocedal & Wright, Numerical Optimization, 2nd edition, algorithm 7.4); n is the sum of the weights
w_i. All penalties share each pass over the data. Few passes are needed: features are rotated into the
eigenvectors of their covariance, where the Hessian is nearly diagonal.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipeline.errors import Diverged, unknown_name
from pipeline.progress import Progress, silent

TOLERANCE = 2e-6  # nats (or hinge units): estimated distance of the mean loss from its minimum
MAX_ITERATIONS = 500
MEMORY = 8  # pairs of steps and gradient changes; more pairs cost memory without measurable gain
SMALL_EIGENVALUE = 1e-7  # of the largest eigenvalue: smaller ones are rounding errors
ROUNDING = 1e-6  # of a float32 loss: an increase below this is not a failed step
HALVINGS = 12  # of a step that does not lower the loss, before it is set to zero
SHRINK = 0.75  # converged penalties are dropped once at most this share of the group remains


def _softmax_loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum(tf.nn.log_softmax(logits) * targets, axis=2)


def _squared_hinge(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.nn.relu(1 - (2 * targets - 1) * logits) ** 2, axis=2)


# Convex losses (n, K) of one-hot targets (n, 1, C) and logits (n, K, C), and a typical second derivative in
# the middle of training.
LOSSES: dict[str, tuple[Callable[[tf.Tensor, tf.Tensor], tf.Tensor], float]] = {
    "softmax": (_softmax_loss, 0.07),
    "squared hinge": (_squared_hinge, 0.5),
}


def solve_path(
    inputs: np.ndarray,
    labels: np.ndarray,
    *,
    classes: int,
    loss: str,
    inverse_penalties: Sequence[float],
    weights: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D, C) and bias (K, C) float32 for K inverse penalties, in the same order.

    inputs (n, D) float32 should be standardized, labels (n,) in 0 … classes - 1. weights (n,) are those of
    the images in the loss, 1 by default. A penalty has converged when a quadratic model puts its mean loss
    less than tolerance above the minimum; for weak penalties the true distance can be ten times larger. The
    bias is not penalized. Raises BadInput for an unknown loss and Diverged when inputs or a loss contain NaN
    or infinity.
    """
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    weights = np.ones(len(inputs)) if weights is None else weights.astype(np.float64)
    total = weights.sum()
    mean, basis, eigenvalues, rotated = _rotate(inputs, weights / total)
    penalties = 1.0 / (np.asarray(inverse_penalties, np.float64) * total)
    targets = tf.one_hot(labels, classes)[:, None, :]
    path = _Path(rotated, targets, weights / total, loss, penalties, eigenvalues)
    solution = path.run(tolerance, progress)
    kernels = np.einsum("dr,rkc->kdc", basis, solution[:-1]).astype(np.float32)
    return kernels, (solution[-1] - mean @ kernels).astype(np.float32)


def _rotate(inputs: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, tf.Tensor]:
    """Return the mean (D,) of inputs with shares (n,), a basis (D, r) of eigenvectors of their covariance,
    the eigenvalues (r + 1,), and the centered inputs in that basis; the last eigenvalue and column are 1.
    """
    mean = (shares @ inputs).astype(np.float32)
    if not np.isfinite(mean).all():
        raise Diverged("regularization path: expected finite inputs, found NaN or inf; extract them again")
    centered = inputs - mean
    scaled = centered * np.sqrt(shares, dtype=np.float32)[:, None]
    is_wide = len(inputs) < inputs.shape[1]
    if is_wide:  # the Gram matrix has the same eigenvalues as the covariance
        scaled = scaled.astype(np.float64)
        products = scaled @ scaled.T
    else:
        products = tf.matmul(scaled, scaled, transpose_a=True).numpy().astype(np.float64)
    values, basis = np.linalg.eigh(products)
    large = values > SMALL_EIGENVALUE * values[-1]
    values, basis = values[large], basis[:, large]
    if is_wide:
        basis = scaled.T @ (basis / np.sqrt(values))
    rotated = tf.concat([centered @ basis.astype(np.float32), tf.ones((len(inputs), 1))], axis=1)
    return mean, basis.astype(np.float32), np.append(values, 1.0), rotated


class _Path:
    """L-BFGS on the problems that are not solved yet; arrays are (r + 1, K, C), with the bias last.

    pairs holds steps, the changes of the slope, and 1 / their product (K,), which is 0 for a skipped pair.
    """

    def __init__(
        self,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        shares: np.ndarray,
        loss: str,
        penalties: np.ndarray,
        eigenvalues: np.ndarray,
    ):
        self.inputs, self.pairs = inputs, list[tuple[np.ndarray, np.ndarray, np.ndarray]]()
        (function, curvature), weights = LOSSES[loss], tf.constant(shares[:, None], tf.float32)
        shape = (len(eigenvalues), len(penalties))
        self.solution = np.zeros((*shape, targets.shape[2]), np.float32)
        self.decay = np.broadcast_to(penalties[:, None], (*shape, 1)).astype(np.float32)
        self.decay[-1] = 0  # the bias has no penalty
        self.metric = (curvature * eigenvalues[:, None, None] + self.decay).astype(np.float32)

        @tf.function(autograph=False, reduce_retracing=True)
        def evaluate(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(logits)
                losses = weights * function(targets, logits)
            return tf.reduce_sum(losses, axis=0), tape.gradient(losses, logits)

        self.evaluate = evaluate
        self._start()

    def run(self, tolerance: float, progress: Progress) -> np.ndarray:
        """Return all solutions; converged ones are dropped in groups, so that shapes rarely change."""
        solutions, remaining = self.solution.copy(), np.arange(self.solution.shape[1])
        count = len(remaining)
        for _ in range(MAX_ITERATIONS):
            self._step()
            solutions[:, remaining] = self.solution
            unsolved = -0.5 * _inner(self.slope, self.direction) > tolerance  # quadratic model: g H^-1 g / 2
            progress("regularization path", count - int(unsolved.sum()), count, "penalties")
            if not unsolved.any():
                break
            if unsolved.sum() <= SHRINK * len(remaining):
                remaining = remaining[unsolved]
                self.pairs = [
                    (s[:, unsolved], y[:, unsolved], inverse[unsolved]) for s, y, inverse in self.pairs
                ]
                self.solution, self.decay = self.solution[:, unsolved], self.decay[:, unsolved]
                self.metric = self.metric[:, unsolved]
                self._start()
        return solutions

    def _start(self) -> None:
        self.logits = self._predict_logits(self.solution)
        self._evaluate()
        self.slope = self._compute_slope()
        self.direction = self._compute_direction()

    def _step(self) -> None:
        """Update each solution along its direction, by a shorter step where the loss would grow."""
        solution, logits, value = self.solution, self.logits, self.value
        logit_direction, length = self._predict_logits(self.direction), np.ones((len(value), 1), np.float32)
        for halvings_left in reversed(range(HALVINGS)):
            self.solution = solution + length * self.direction
            self.logits = logits + length * logit_direction
            self._evaluate()
            worse = self.value > value + ROUNDING * np.abs(value)
            if not worse.any():
                break
            length[worse] *= 0.5 if halvings_left > 1 else 0
        slope = self._compute_slope()
        step, change = length * self.direction, slope - self.slope
        product = _inner(step, change)
        usable = product > 1e-12 * _inner(step, self.metric * step)
        inverse = np.where(usable, 1 / np.where(usable, product, 1), 0)
        self.pairs = [*self.pairs, (step, change, inverse)][-MEMORY:]
        self.slope = slope
        self.direction = self._compute_direction()

    def _predict_logits(self, solution: np.ndarray) -> tf.Tensor:
        """Return the logits (n, K, C) of a solution (r + 1, K, C)."""
        product = tf.matmul(self.inputs, solution.reshape(len(solution), -1))
        return tf.reshape(product, (-1, *solution.shape[1:]))

    def _evaluate(self) -> None:
        value, self.residual = self.evaluate(self.logits)
        self.value = value.numpy() + 0.5 * _inner(self.solution, self.decay * self.solution)
        if not np.isfinite(self.value).all():
            raise Diverged(f"regularization path: the loss is {self.value}; standardize the features")

    def _compute_slope(self) -> np.ndarray:
        flat = tf.reshape(self.residual, (len(self.inputs), -1))
        slope = tf.matmul(self.inputs, flat, transpose_a=True).numpy().reshape(self.solution.shape)
        return slope + self.decay * self.solution

    def _compute_direction(self) -> np.ndarray:
        """Return the direction of the two-loop recursion, scaled to fit the last pair (equation 7.20)."""
        q, weights = self.slope.copy(), []
        for step, change, inverse in reversed(self.pairs):
            weights.append(inverse * _inner(step, q))
            q -= (weights[-1][:, None] * change).astype(q.dtype)
        q /= self.metric
        if self.pairs:
            step, change, inverse = self.pairs[-1]
            curved = np.where(inverse > 0, inverse * _inner(change, change / self.metric), 1)
            q /= curved[:, None].astype(q.dtype)
        for (step, change, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            q += ((weight - inverse * _inner(change, q))[:, None] * step).astype(q.dtype)
        return -q


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the inner product (K,) float64 of arrays (r + 1, K, C) for each K."""
    return np.einsum("rkc,rkc->k", a, b, dtype=np.float64, optimize=False)
