"""What a head learns from: cached features, standardised by the training rows alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.errors import Diverged
from pipeline.training.examples import Examples

Points = list[dict[str, Any]]  # settings that heads of one recipe are tried with

DEAD_VARIANCE = 1e-11  # of its mean square: below it a float32 feature is constant but for rounding


def moments(features: np.ndarray, floor: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (D,) and variance (D,) float32 of features (n, D); the variance of dead features is 1.

    With a floor no variance is below floor times the mean over all features.
    Raises Diverged when a feature is not a finite number.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    if not np.isfinite(variance).all():
        broken = int((~np.isfinite(variance)).sum())
        raise Diverged(
            f"features: expected finite numbers, found NaN or infinity in {broken} of {len(variance)}; "
            "extract them again"
        )
    alive, least = variance > DEAD_VARIANCE * (variance + mean**2), floor * variance.mean()
    variance = np.where(alive | (least > 0), np.maximum(variance, least), 1.0)
    return mean.astype(np.float32), variance.astype(np.float32)


class HeadData:
    """Examples of features, and their standardised rows; all views of a training row are training rows.

    moments, mean and variance (D,) float32, are what rows are standardised by: unless given those of the
    training rows, with floor as the least variance in units of the mean over the features. train_labels
    (V * n,) and val_labels (n,) are int64.
    """

    def __init__(
        self, examples: Examples, *, floor: float = 0.0, standard: tuple[np.ndarray, np.ndarray] | None = None
    ):
        self.examples, self.views, self.classes = examples, examples.views, examples.classes
        self.train_labels = np.tile(examples.labels[examples.train], examples.views)
        self.val_labels = examples.labels[examples.val]
        self.moments = standard or moments(self.raw(examples.train), floor)

    @property
    def train(self) -> np.ndarray:
        """The training rows, (V * n, D) float32, a block for each view; standardised at each call."""
        return self._standardised(self.examples.train)

    @property
    def val(self) -> np.ndarray:
        """The val rows, (V * n, D) float32, a block for each view; standardised at each call."""
        return self._standardised(self.examples.val)

    def with_train(self, rows: np.ndarray) -> HeadData:
        """Return the same data with other training rows (n,), standardised as before."""
        return HeadData(replace(self.examples, train=rows), standard=self.moments)

    def by_view(self, answers: np.ndarray) -> np.ndarray:
        """Return answers (V * n, …) as (V, n, …)."""
        return answers.reshape(self.views, -1, *answers.shape[1:])

    def raw(self, rows: np.ndarray) -> np.ndarray:
        """Return the features (V * n, D) of rows (n,) as they are, a block for each view."""
        inputs = self.examples.inputs
        return np.take(self.by_view(inputs), rows, axis=1).reshape(-1, inputs.shape[1])

    def _standardised(self, rows: np.ndarray) -> np.ndarray:
        mean, variance = self.moments
        found = self.raw(rows)
        found -= mean
        found /= np.sqrt(variance)
        return found
