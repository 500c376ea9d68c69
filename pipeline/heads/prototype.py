"""The nearest class mean, a linear head: x m - |m|^2 / 2 = (|x|^2 - |x - m|^2) / 2."""

from typing import Any

import keras
import numpy as np

from pipeline.heads.data import HeadData, Points, linear_model
from pipeline.recipes.heads import PrototypeHead


def fit(recipe: PrototypeHead, data: HeadData, **_: Any) -> keras.Model:
    """Return the head of the class means of the standardized training rows."""
    return linear_model(data, *_means(data))


def predict_logits(recipe: PrototypeHead, points: Points, data: HeadData, **_: Any) -> list[np.ndarray]:
    """Return val logits (V, n, C), the same for all points because the head has no settings."""
    weights, bias = _means(data)
    return [data.by_view(data.val @ weights + bias)] * len(points)


def _means(data: HeadData) -> tuple[np.ndarray, np.ndarray]:
    one_hot = np.eye(data.classes, dtype=np.float32)[data.train_labels]
    counts = np.maximum(one_hot.sum(axis=0), 1)
    means = (data.train.T @ one_hot) / counts
    return means, -0.5 * (means**2).sum(axis=0)
