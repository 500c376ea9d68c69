"""The problem of heads.penalised for images with weights: a weight of 2 is an image that comes twice.

For each inverse penalty c, W and b minimize c sum_i w_i loss(x_i W + b, y_i) + |W|^2 / 2, one c after
another, by SciPy's L-BFGS-B in scaled eigenvectors of the covariance, where the Hessian is nearly diagonal.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

from pipeline.heads.data import HeadData
from pipeline.progress import Progress, silent

CURVATURE = 0.2  # a typical second derivative of both losses
OPTIONS = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-7}  # of the mean loss
# Losses (n,) of one-hot targets and logits (n, C).
LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "softmax": tf.nn.softmax_cross_entropy_with_logits,
    "squared hinge": lambda y, logits: tf.reduce_sum(tf.nn.relu(1 - (2 * y - 1) * logits) ** 2, axis=1),
}


def solve_weighted(
    data: HeadData, loss: str, inverse_penalties: Sequence[float], progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D, C) and bias (K, C) float32 for K inverse penalties, for data with weights."""
    assert data.train_weights is not None
    total, inputs = data.train_weights.sum(dtype=np.float64), data.train.astype(np.float64)
    shares = data.train_weights / total
    mean = shares @ inputs
    inputs -= mean
    values, basis = np.linalg.eigh((inputs.T * shares) @ inputs)
    rows, targets = tf.constant(inputs @ basis), tf.one_hot(data.train_labels, data.classes, dtype=tf.float64)

    @tf.function(autograph=False)
    def evaluate(point: tf.Tensor, scale: tf.Tensor, decay: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(point)
            kernel = scale * tf.reshape(point, (-1, data.classes))
            losses = shares * LOSSES[loss](targets, tf.matmul(rows, kernel[:-1]) + kernel[-1])
            value = tf.reduce_sum(losses) + decay / 2 * tf.reduce_sum(kernel[:-1] ** 2)
        return value, tape.gradient(value, point)

    def value_and_slope(*point: np.ndarray) -> list[np.ndarray]:
        return [result.numpy() for result in evaluate(*map(tf.constant, point))]

    solution, solutions = np.zeros((len(values) + 1, data.classes)), []
    for number, c in enumerate(inverse_penalties, start=1):
        decay = 1 / (c * total)
        scale = np.append(CURVATURE * np.maximum(values, 0) + decay, 1.0)[:, None] ** -0.5
        start = (solution / scale).ravel()  # from the last penalty's solution
        found = minimize(value_and_slope, start, (scale, decay), "L-BFGS-B", jac=True, options=OPTIONS)
        solution = scale * found.x.reshape(solution.shape)
        kernel = basis @ solution[:-1]
        solutions.append((kernel.astype(np.float32), (solution[-1] - mean @ kernel).astype(np.float32)))
        progress("regularization path", number, len(inverse_penalties), "penalties")
    kernels, biases = zip(*solutions, strict=True)
    return np.stack(kernels), np.stack(biases)
