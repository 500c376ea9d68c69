"""Ridge classification: least squares on targets of 1 and -1, all penalties from one eigendecomposition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.heads.data import HeadData
from pipeline.heads.model import linear_model
from pipeline.heads.recipes import RidgeHead

if TYPE_CHECKING:
    import keras
    import numpy as np


def fit(recipe: RidgeHead, data: HeadData, **_) -> keras.Model:
    """Return the head of one penalty in closed form."""
    basis, values, products, bias = _decomposed(data)
    weights = basis @ (products / (values + recipe.alpha * data.views)[:, None])
    return linear_model(data, weights.astype("float32"), bias)


def answers(recipe: RidgeHead, points: list[dict], data: HeadData, **_) -> list[np.ndarray]:
    """Return the answers on val of a head for the `alpha` of each point."""
    import numpy as np
    import tensorflow as tf

    basis, values, products, bias = _decomposed(data)
    rotated = tf.matmul(data.val, basis.astype(np.float32)).numpy()
    alphas = np.array([point.get("alpha", recipe.alpha) for point in points])
    scaled = products[:, None] / (values[:, None] + alphas * data.views)[..., None]  # (D, K, C)
    found = rotated @ scaled.reshape(len(values), -1).astype(np.float32)
    found = found.reshape(-1, len(points), data.classes) + bias
    return [data.by_view(found[:, number]) for number in range(len(points))]


def _decomposed(data: HeadData) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return eigenvectors (D, D) and values (D,) of X'X, X'Y in their basis (D, C), and the bias (C,).

    X is the standardised training rows, so its columns have mean 0 and the bias is the mean target.
    """
    import numpy as np
    import tensorflow as tf

    inputs = tf.constant(data.train)
    targets = 2 * np.eye(data.classes, dtype=np.float32)[data.train_labels] - 1
    bias = targets.mean(axis=0, dtype=np.float64)
    gram = tf.matmul(inputs, inputs, transpose_a=True).numpy().astype(np.float64)
    products = tf.matmul(inputs, targets - bias.astype(np.float32), transpose_a=True).numpy()
    values, basis = np.linalg.eigh(gram)
    return basis, np.maximum(values, 0), basis.T @ products.astype(np.float64), bias.astype(np.float32)
