"""Linear heads with an L2 penalty: logistic regression, and support vector machines with squared hinge."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pipeline.heads.data import HeadData, Points
from pipeline.heads.model import linear_model
from pipeline.heads.penalised import LinearPath, solve_path
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import LogisticHead, SvmHead

Linear = LogisticHead | SvmHead


def fit(recipe: Linear, data: HeadData, *, progress: Progress = silent, **_: Any) -> keras.Model:
    """Return the head of the recipe's penalty, solved to convergence."""
    path = _solve(recipe, [recipe.c], data, progress)
    return linear_model(data, path.weights[0], path.bias[0])


def predict_logits(
    recipe: Linear, points: Points, data: HeadData, *, progress: Progress = silent, **_: Any
) -> list[np.ndarray]:
    """Return val logits (V, n, C) of a head for each point's `c`; all are solved together."""
    path = _solve(recipe, [point.get("c", recipe.c) for point in points], data, progress)
    pairs, val = zip(path.weights, path.bias, strict=True), data.val
    return [data.by_view(val @ weights + bias) for weights, bias in pairs]


def _solve(recipe: Linear, inverse_penalties: list[float], data: HeadData, progress: Progress) -> LinearPath:
    """Solve for all inverse penalties; they weigh the loss per image, whatever the number of views."""
    return solve_path(
        data.train,
        data.train_labels,
        classes=data.classes,
        loss=recipe.loss,
        inverse_penalties=[c / data.views for c in inverse_penalties],
        progress=progress,
    )
