"""The data that a head is trained on: cached features, standardized by the training rows only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor
from sklearn.preprocessing import StandardScaler

from pipeline.errors import Diverged
from pipeline.training.examples import Examples

Points = list[dict[str, Any]]  # settings to try with one recipe
Moments = tuple[np.ndarray, np.ndarray]  # mean and variance (D,) float32 of each feature

BLOCK_ROWS = 4096  # that are read and computed at a time
CACHED_ROWS = 128  # that are copied and standardized at a time: they stay in the processor's cache
CONSTANT_VARIANCE = 1e-11  # of its mean square: below this a float32 feature is constant up to rounding


@dataclass(frozen=True, eq=False)
class MappedFeatures:
    """Rows (n, D) float32 of mapped features, read when they are sliced or indexed.

    places (n,) are their row numbers in inputs. They are standardized if moments are given.
    """

    inputs: np.ndarray
    places: np.ndarray
    moments: Moments | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and of features."""
        return len(self.places), self.inputs.shape[1]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        """Return rows (m, D) float32 in a new array."""
        places = self.places[which]
        features = np.empty((len(places), self.inputs.shape[1]), self.inputs.dtype)
        for start in range(0, len(places), CACHED_ROWS):
            rows = features[start : start + CACHED_ROWS]
            np.take(self.inputs, places[start : start + CACHED_ROWS], axis=0, out=rows, mode="clip")
            if self.moments:
                mean, variance = self.moments
                rows -= mean
                rows /= np.sqrt(variance)
        return features


Rows: TypeAlias = np.ndarray | MappedFeatures


def blocks(rows: Rows, size: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of up to size rows, by default BLOCK_ROWS, and their features."""
    step = size or BLOCK_ROWS
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        yield block, rows[block]


def moments(features: Rows, floor: float = 0.0) -> Moments:
    """Return mean (D,) and variance (D,) float32 of features (n, D); constant features get variance 1.

    Variances are at least floor times the mean variance over all features.
    Raises Diverged when features contain NaN or infinity.
    """
    scaler = StandardScaler()
    for _, block in blocks(features):
        if not np.isfinite(block).all():
            broken = int((~np.isfinite(block)).any(axis=0).sum())
            what = f"found NaN or infinity in {broken} of {features.shape[1]}"
            raise Diverged(f"features: expected finite numbers, {what}; extract them again")
        scaler.partial_fit(block)
    mean, variance = scaler.mean_, scaler.var_
    varies, minimum = variance > CONSTANT_VARIANCE * (variance + mean**2), floor * variance.mean()
    variance = np.where(varies | (minimum > 0), np.maximum(variance, minimum), 1.0)
    return mean.astype(np.float32), variance.astype(np.float32)


def scatter(rows: Rows, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and scatter matrix (D, D) of weighted rows (n, D), float64, from one pass."""
    products, total = np.zeros((rows.shape[1], rows.shape[1])), np.zeros(rows.shape[1])
    for block, features in blocks(rows):
        weighted = features * weights[block, None]
        products += tf.matmul(weighted, features, transpose_a=True).numpy()
        total += weighted.sum(axis=0, dtype=np.float64)
    mean = total / (sum_of_weights := weights.sum(dtype=np.float64))
    return mean, products - sum_of_weights * np.outer(mean, mean)


class HeadData:
    """Examples of features with standardized rows; every view of a training image is a training row.

    Rows are standardized by moments, mean and variance (D,) float32; by default those of the training rows,
    with variances of at least floor times their mean. train_labels (V * n,) and val_labels (n,) are int64;
    train_weights (V * n,) float32 are weights in the loss.
    """

    def __init__(self, examples: Examples, *, floor: float = 0.0, standardize_by: Moments | None = None):
        self.examples, self.views, self.classes = examples, examples.views, examples.classes
        self.train_labels = np.tile(examples.labels[examples.train], examples.views)
        self.val_labels = examples.labels[examples.val]
        weights = examples.loss_weights
        weights = np.ones(len(examples.labels), np.float32) if weights is None else weights
        self.train_weights = np.tile(weights[examples.train], examples.views)
        self.moments = standardize_by or moments(self.raw(examples.train), floor)

    @property
    def train(self) -> Rows:
        """The training rows, (V * n, D) float32, one block per view; standardized on every access."""
        return self._rows(self.examples.train, self.moments)

    @property
    def val(self) -> Rows:
        """The val rows, (V * n, D) float32, one block per view; standardized on every access."""
        return self._rows(self.examples.val, self.moments)

    @property
    def votes(self) -> np.ndarray:
        """The weight of each training row in its own class, (V * n, C) float32, 0 in all others."""
        return np.eye(self.classes, dtype=np.float32)[self.train_labels] * self.train_weights[:, None]

    def class_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights (C,) of all classes and the sums (C, D) of their weighted rows, float64."""
        votes = self.votes
        sums = sum(votes[block].T @ features for block, features in blocks(self.train))
        return votes.sum(axis=0, dtype=np.float64), np.asarray(sums, np.float64)

    def by_view(self, values: np.ndarray) -> np.ndarray:
        """Return values (V * n, …) as (V, n, …)."""
        return values.reshape(self.views, -1, *values.shape[1:])

    def raw(self, rows: np.ndarray) -> Rows:
        """Return the features (V * n, D) of rows (n,), not standardized, one block per view."""
        return self._rows(rows, None)

    def _rows(self, rows: np.ndarray, standardize_by: Moments | None) -> Rows:
        """Return the rows in memory, or, of mapped features, what reads them."""
        inputs = cast("np.ndarray", self.examples.inputs)
        count = len(inputs) // self.views
        places = np.concatenate([rows + count * view for view in range(self.views)])
        features = MappedFeatures(inputs, places, standardize_by)
        return features if isinstance(inputs, np.memmap) else features[:]


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
