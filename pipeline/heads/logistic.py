"""Linear heads with an L2 penalty: logistic regression, and support vector machines with squared hinge."""

from typing import Any

import keras
import numpy as np

from pipeline.heads.data import HeadData, Points, linear_model
from pipeline.heads.penalised import solve_path
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import LogisticHead, SvmHead

Linear = LogisticHead | SvmHead


def fit(recipe: Linear, data: HeadData, *, progress: Progress = silent, **_: Any) -> keras.Model:
    """Return the head of the recipe's penalty, solved to convergence."""
    weights, bias = _solve(recipe, [recipe.c], data, progress)
    return linear_model(data, weights[0], bias[0])


def predict_logits(
    recipe: Linear, points: Points, data: HeadData, *, progress: Progress = silent, **_: Any
) -> list[np.ndarray]:
    """Return val logits (V, n, C) of a head for each point's `c`; all are solved together."""
    solutions = _solve(recipe, [point.get("c", recipe.c) for point in points], data, progress)
    val = data.val
    return [data.by_view(val @ weights + bias) for weights, bias in zip(*solutions, strict=True)]


def _solve(
    recipe: Linear, inverse_penalties: list[float], data: HeadData, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Solve for all inverse penalties; they weigh the loss per image, whatever the number of views."""
    return solve_path(
        data.train,
        data.train_labels,
        classes=data.classes,
        loss=recipe.loss,
        inverse_penalties=[c / data.views for c in inverse_penalties],
        progress=progress,
    )
