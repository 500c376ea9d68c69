"""Linear heads with a direct solver; a sweep solves all of its points together.

A solver returns weights (K, D, C) and bias (K, C) float32 on standardized features, for each of K points.
"""

from typing import Any

import keras
import numpy as np

from pipeline.extensions import resolve
from pipeline.heads.data import HeadData, Points, blocks, linear_model, scatter
from pipeline.heads.penalised import solve_path
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
    weights, bias = resolve(recipe.solver)(recipe, points, data, progress)
    columns = np.concatenate(list(weights), axis=1)  # (D, K * C): one product for all points
    parts = [features @ columns for _, features in blocks(data.val)]
    logits = np.concatenate(parts).reshape(-1, len(points), data.classes) + bias
    return [data.by_view(logits[:, number]) for number in range(len(points))]


def solve_penalised(
    recipe: LogisticHead | SvmHead, points: Points, data: HeadData, progress: Progress
) -> Solution:
    """Solve for each point's inverse penalty `c`, which weighs the loss per image, however many views."""
    penalties = [point.get("c", recipe.c) / data.views for point in points]
    rows = data.train, data.train_labels, data.train_weights
    options: dict[str, Any] = {"classes": data.classes, "loss": recipe.loss, "progress": progress}
    return solve_path(*rows, inverse_penalties=penalties, **options)[:2]


def solve_ridge(recipe: RidgeHead, points: Points, data: HeadData, progress: Progress) -> Solution:
    """Solve least squares on targets of 1 and -1 for each penalty `alpha`, from one eigendecomposition."""
    input_mean, products = scatter(data.train, data.train_weights)
    counts, sums = data.class_sums()
    target_mean = 2 * counts / counts.sum() - 1
    values, basis = np.linalg.eigh(products)
    alphas = np.array([point.get("alpha", recipe.alpha) for point in points])
    shrunk = np.maximum(values, 0) + alphas[:, None] * data.views  # (K, D)
    targets = 2 * (sums - counts[:, None] * input_mean)  # of centered rows, summed over the rows of a class
    weights = basis @ ((basis.T @ targets.T) / shrunk[..., None])
    bias = target_mean - input_mean @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def solve_prototype(recipe: PrototypeHead, points: Points, data: HeadData, progress: Progress) -> Solution:
    """Return the nearest class mean m as a linear head: x m - |m|^2 / 2 = (|x|^2 - |x - m|^2) / 2."""
    counts, sums = data.class_sums()
    means = (sums / np.where(counts, counts, 1)[:, None]).T.astype(np.float32)
    bias = -0.5 * (means**2).sum(axis=0)
    return np.stack([means] * len(points)), np.stack([bias] * len(points))
