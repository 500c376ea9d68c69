"""Ridge classification: least squares on targets of 1 and -1, all penalties from one eigendecomposition."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.heads.data import HeadData, Points
from pipeline.heads.model import linear_model
from pipeline.recipes.heads import RidgeHead


def fit(recipe: RidgeHead, data: HeadData, **_: Any) -> keras.Model:
    """Return the head of one penalty in closed form."""
    basis, values, products, mean, target = _decomposed(data)
    weights = basis @ (products / (values + recipe.alpha * data.views)[:, None])
    bias = target - mean @ weights
    return linear_model(data, weights.astype("float32"), bias.astype("float32"))


def answers(recipe: RidgeHead, points: Points, data: HeadData, **_: Any) -> list[np.ndarray]:
    """Return the answers on val of a head for the `alpha` of each point."""
    basis, values, products, mean, target = _decomposed(data)
    rotated = tf.matmul(data.val - mean, basis.astype(np.float32)).numpy()
    alphas = np.array([point.get("alpha", recipe.alpha) for point in points])
    scaled = products[:, None] / (values[:, None] + alphas * data.views)[..., None]  # (D, K, C)
    found = rotated @ scaled.reshape(len(values), -1).astype(np.float32)
    found = found.reshape(-1, len(points), data.classes) + target
    return [data.by_view(found[:, number]) for number in range(len(points))]


def _decomposed(data: HeadData) -> tuple[np.ndarray, ...]:
    """Return eigenvectors (D, D) and values (D,) of X'X, X'Y in their basis (D, C), the means of X and Y.

    X and Y are the training rows and targets without their means (D,) and (C,).
    """
    train = data.train
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    inputs = tf.constant(train - mean)
    targets = 2 * np.eye(data.classes, dtype=np.float32)[data.train_labels] - 1
    target = targets.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram = tf.matmul(inputs, inputs, transpose_a=True).numpy().astype(np.float64)
    products = tf.matmul(inputs, targets - target, transpose_a=True).numpy().astype(np.float64)
    values, basis = np.linalg.eigh(gram)
    return basis, np.maximum(values, 0), basis.T @ products, mean, target
