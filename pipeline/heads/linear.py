"""Linear heads with a direct solver; a sweep solves all of its points together.

A solver returns weights (K, D, C) and bias (K, C) float32 on standardized features, for each of K points.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.extensions import resolve
from pipeline.heads.data import HeadData, Points, linear_model
from pipeline.heads.penalised import solve_path
from pipeline.heads.weighted import solve_weighted
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import LinearHead, LogisticHead, PrototypeHead, RidgeHead, SvmHead

Solution = tuple[np.ndarray, np.ndarray]


def fit(recipe: LinearHead, data: HeadData, *, progress: Progress = silent, **_: Any) -> keras.Model:
    """Return the head of the recipe's settings."""
    weights, bias = resolve(recipe.solver)(recipe, [{}], data, progress)
    return linear_model(data, weights[0], bias[0])


def predict_logits(
    recipe: LinearHead, points: Points, data: HeadData, *, progress: Progress = silent, **_: Any
) -> list[np.ndarray]:
    """Return val logits (V, n, C) of a head for each point."""
    solutions = zip(*resolve(recipe.solver)(recipe, points, data, progress), strict=True)
    val = data.val
    return [data.by_view(val @ weights + bias) for weights, bias in solutions]


def solve_penalised(
    recipe: LogisticHead | SvmHead, points: Points, data: HeadData, progress: Progress
) -> Solution:
    """Solve for each point's inverse penalty `c`, which weighs the loss per image, however many views."""
    penalties = [point.get("c", recipe.c) / data.views for point in points]
    if data.train_weights is not None:
        return solve_weighted(data, recipe.loss, penalties, progress)
    return solve_path(
        data.train,
        data.train_labels,
        classes=data.classes,
        loss=recipe.loss,
        inverse_penalties=penalties,
        progress=progress,
    )


def solve_ridge(recipe: RidgeHead, points: Points, data: HeadData, progress: Progress) -> Solution:
    """Solve least squares on targets of 1 and -1 for each penalty `alpha`, from one eigendecomposition."""
    train, weights = data.train, data.train_weights
    roots = np.ones(1, np.float32) if weights is None else np.sqrt(weights)[:, None]
    input_mean = _mean(train, weights)
    inputs = tf.constant((train - input_mean) * roots)
    targets = 2 * np.eye(data.classes, dtype=np.float32)[data.train_labels] - 1
    target_mean = _mean(targets, weights)
    gram = tf.matmul(inputs, inputs, transpose_a=True).numpy().astype(np.float64)
    products = tf.matmul(inputs, (targets - target_mean) * roots, transpose_a=True).numpy().astype(np.float64)
    values, basis = np.linalg.eigh(gram)
    alphas = np.array([point.get("alpha", recipe.alpha) for point in points])
    shrunk = np.maximum(values, 0) + alphas[:, None] * data.views  # (K, D)
    weights = basis @ ((basis.T @ products) / shrunk[..., None])
    bias = target_mean - input_mean @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the mean (D,) float32 of values (n, D) with weights (n,), computed in float64."""
    if weights is None:
        return values.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.average(values, axis=0, weights=weights.astype(np.float64)).astype(np.float32)


def solve_prototype(recipe: PrototypeHead, points: Points, data: HeadData, progress: Progress) -> Solution:
    """Return the nearest class mean m as a linear head: x m - |m|^2 / 2 = (|x|^2 - |x - m|^2) / 2."""
    votes = data.votes
    sums = votes.sum(axis=0)
    means = (data.train.T @ votes) / np.where(sums, sums, 1)
    bias = -0.5 * (means**2).sum(axis=0)
    return np.stack([means] * len(points)), np.stack([bias] * len(points))
