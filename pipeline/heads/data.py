"""The data that a head is trained on: cached features, standardized by the training rows only."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import KerasTensor

from pipeline.errors import Diverged
from pipeline.training.examples import Examples

Points = list[dict[str, Any]]  # settings to try with one recipe
Moments = tuple[np.ndarray, np.ndarray]  # mean and variance (D,) float32 of each feature

CONSTANT_VARIANCE = 1e-11  # of its mean square: below this a float32 feature is constant up to rounding


def moments(features: np.ndarray, floor: float = 0.0) -> Moments:
    """Return mean (D,) and variance (D,) float32 of features (n, D); constant features get variance 1.

    Variances are at least floor times the mean variance over all features.
    Raises Diverged when features contain NaN or infinity.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    if not np.isfinite(variance).all():
        broken = int((~np.isfinite(variance)).sum())
        raise Diverged(
            f"features: expected finite numbers, found NaN or infinity in {broken} of {len(variance)}; "
            "extract them again"
        )
    varies, minimum = variance > CONSTANT_VARIANCE * (variance + mean**2), floor * variance.mean()
    variance = np.where(varies | (minimum > 0), np.maximum(variance, minimum), 1.0)
    return mean.astype(np.float32), variance.astype(np.float32)


class HeadData:
    """Examples of features with standardized rows; every view of a training image is a training row.

    Rows are standardized by moments, mean and variance (D,) float32; by default those of the training rows,
    with variances of at least floor times their mean. train_labels (V * n,) and val_labels (n,) are int64;
    train_weights (V * n,) float32 are weights in the loss, None if all are 1.
    """

    def __init__(self, examples: Examples, *, floor: float = 0.0, standardize_by: Moments | None = None):
        self.examples, self.views, self.classes = examples, examples.views, examples.classes
        self.train_labels = np.tile(examples.labels[examples.train], examples.views)
        self.val_labels = examples.labels[examples.val]
        weights = examples.loss_weights
        self.train_weights = None if weights is None else np.tile(weights[examples.train], examples.views)
        self.moments = standardize_by or moments(self.raw(examples.train), floor)

    @property
    def train(self) -> np.ndarray:
        """The training rows, (V * n, D) float32, one block per view; standardized on every access."""
        return self._standardize(self.examples.train)

    @property
    def val(self) -> np.ndarray:
        """The val rows, (V * n, D) float32, one block per view; standardized on every access."""
        return self._standardize(self.examples.val)

    @property
    def votes(self) -> np.ndarray:
        """The weight of each training row in its own class, (V * n, C) float32, 0 in all others."""
        one_hot = np.eye(self.classes, dtype=np.float32)[self.train_labels]
        return one_hot if self.train_weights is None else one_hot * self.train_weights[:, None]

    def with_train(self, rows: np.ndarray) -> "HeadData":
        """Return the same data with other training rows (n,), standardized as before."""
        return HeadData(replace(self.examples, train=rows), standardize_by=self.moments)

    def by_view(self, values: np.ndarray) -> np.ndarray:
        """Return values (V * n, …) as (V, n, …)."""
        return values.reshape(self.views, -1, *values.shape[1:])

    def raw(self, rows: np.ndarray) -> np.ndarray:
        """Return the features (V * n, D) of rows (n,), not standardized, one block per view."""
        inputs = np.asarray(self.examples.inputs)
        return np.take(self.by_view(inputs), rows, axis=1).reshape(-1, inputs.shape[1])

    def _standardize(self, rows: np.ndarray) -> np.ndarray:
        mean, variance = self.moments
        features = self.raw(rows)
        features -= mean
        features /= np.sqrt(variance)
        return features


def standardized_input(data: HeadData) -> tuple[KerasTensor, KerasTensor]:
    """Return an input of features (B, D) and the same features, standardized by the training rows."""
    mean, variance = data.moments
    features = keras.Input((len(mean),), name="features")
    standardize = keras.layers.Normalization(
        mean=mean, variance=variance, dtype="float32", name="standardise"
    )
    return features, standardize(features)


def linear_model(data: HeadData, weights: np.ndarray, bias: np.ndarray) -> keras.Model:
    """Return a model with weights (D, C) and bias (C,) on standardized features; it ends in "logits"."""
    features, x = standardized_input(data)
    dense = keras.layers.Dense(weights.shape[1], dtype="float32", name="logits")
    model = keras.Model(features, dense(x))
    dense.set_weights([weights, bias])
    return model
