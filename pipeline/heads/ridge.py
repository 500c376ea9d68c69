"""Ridge classification: least squares on targets of 1 and -1, all penalties from one eigendecomposition."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.heads.data import HeadData, Points, linear_model
from pipeline.recipes.heads import RidgeHead


def fit(recipe: RidgeHead, data: HeadData, **_: Any) -> keras.Model:
    """Return the head of the recipe's penalty, solved in closed form."""
    basis, values, products, input_mean, target_mean = _decompose(data)
    weights = basis @ (products / (values + recipe.alpha * data.views)[:, None])
    bias = target_mean - input_mean @ weights
    return linear_model(data, weights.astype("float32"), bias.astype("float32"))


def predict_logits(recipe: RidgeHead, points: Points, data: HeadData, **_: Any) -> list[np.ndarray]:
    """Return val logits (V, n, C) of a head for each point's `alpha`."""
    basis, values, products, input_mean, target_mean = _decompose(data)
    rotated = tf.matmul(data.val - input_mean, basis.astype(np.float32)).numpy()
    alphas = np.array([point.get("alpha", recipe.alpha) for point in points])
    scaled = products[:, None] / (values[:, None] + alphas * data.views)[..., None]  # (D, K, C)
    logits = rotated @ scaled.reshape(len(values), -1).astype(np.float32)
    logits = logits.reshape(-1, len(points), data.classes) + target_mean
    return [data.by_view(logits[:, number]) for number in range(len(points))]


def _decompose(data: HeadData) -> tuple[np.ndarray, ...]:
    """Return eigenvectors (D, D) and eigenvalues (D,) of X'X, X'Y in that basis (D, C), and the two means.

    X and Y are the training rows and targets minus their means (D,) and (C,).
    """
    train = data.train
    input_mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    inputs = tf.constant(train - input_mean)
    targets = 2 * np.eye(data.classes, dtype=np.float32)[data.train_labels] - 1
    target_mean = targets.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram = tf.matmul(inputs, inputs, transpose_a=True).numpy().astype(np.float64)
    products = tf.matmul(inputs, targets - target_mean, transpose_a=True).numpy().astype(np.float64)
    values, basis = np.linalg.eigh(gram)
    return basis, np.maximum(values, 0), basis.T @ products, input_mean, target_mean
