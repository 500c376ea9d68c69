"""What a head learns from: cached features, standardised by the training rows alone."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import Diverged
from pipeline.features.store import FeatureStore
from pipeline.training.examples import Examples

DEAD_VARIANCE = 1e-11  # of its mean square: below it a float32 feature is constant but for rounding


def read_views(features: FeatureStore, layers: tuple[str, ...], views: tuple[str, ...]) -> np.ndarray:
    """Return the features (V * N, D) float32 of the layers joined, one block of N rows for each view."""
    return np.concatenate([features.load(layers, view) for view in views])


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


@dataclass(frozen=True, eq=False)
class HeadData:
    """Examples of features, and their standardised rows; all views of a training row are training rows."""

    examples: Examples
    standard: np.ndarray | None = None  # rows (n,) that standardise, by default the training rows
    floor: float = 0.0  # least variance to standardise by, as a share of the mean over the features

    @property
    def views(self) -> int:
        """How many views there are of each image."""
        return self.examples.views

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.examples.classes

    @functools.cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (D,) float32 of the features of the rows that standardise."""
        rows = self.examples.train if self.standard is None else self.standard
        return moments(self._rows(rows), self.floor)

    @functools.cached_property
    def train(self) -> np.ndarray:
        """The standardised training rows, (V * n, D) float32, a block for each view."""
        return self._standardised(self.examples.train)

    @functools.cached_property
    def train_labels(self) -> np.ndarray:
        """The labels (V * n,) int64 of the rows of train."""
        return np.tile(self.examples.labels[self.examples.train], self.views)

    @functools.cached_property
    def val(self) -> np.ndarray:
        """The standardised val rows, (V * n, D) float32, a block for each view."""
        return self._standardised(self.examples.val)

    @property
    def val_labels(self) -> np.ndarray:
        """The labels (n,) int64 of the val images."""
        return self.examples.labels[self.examples.val]

    def with_train(self, rows: np.ndarray) -> HeadData:
        """Return the same data with other training rows (n,), standardised as before."""
        standard = self.examples.train if self.standard is None else self.standard
        found = HeadData(replace(self.examples, train=rows), standard, self.floor)
        vars(found).update(moments=self.moments, val=self.val)  # computed once for all
        return found

    def by_view(self, answers: np.ndarray) -> np.ndarray:
        """Return answers (V * n, …) as (V, n, …)."""
        return answers.reshape(self.views, -1, *answers.shape[1:])

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        starts = range(0, len(self.examples.inputs), len(self.examples.labels))
        return np.concatenate([self.examples.inputs[start + rows] for start in starts])

    def _standardised(self, rows: np.ndarray) -> np.ndarray:
        mean, variance = self.moments
        found = self._rows(rows)
        found -= mean
        found /= np.sqrt(variance)
        return found
