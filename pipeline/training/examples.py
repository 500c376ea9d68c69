"""What a classifier learns from: inputs, labels, and which rows are train and val."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pipeline.datasets.split import given_rows
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import ALL_LABELS
from pipeline.features.store import FeatureStore
from pipeline.recipes.base import Training


@dataclass(frozen=True)
class Examples:
    """What a classifier learns from: inputs (N, …) uint8 images or float32 features, labels (N,) int64.

    train and val are positions (n,) in them; classes is the number of classes. With several views, inputs
    has as many blocks of len(labels) rows, one block a view: training draws a view of each example anew in
    every epoch, answers are averaged over the views. Where they are varied, inputs has a block for each of
    views.variation_views instead: a step draws among them what it would do to images, and the first,
    which is not varied, answers.
    """

    inputs: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    classes: int
    views: int = 1
    share: float = 1.0  # of all training images, that train is
    varied: bool = False

    @classmethod
    def of(
        cls,
        store: ImageStore | FeatureStore,
        inputs: np.ndarray,
        classes: int,
        views: int = 1,
        *,
        budget: str = ALL_LABELS,
    ) -> Examples:
        """Return the examples of an image or feature store whose rows inputs are, a block for each view.

        budget says how many training labels are used (see datasets.table).
        """
        rows = store.rows("train")
        train = given_rows(store.labels, rows, budget, store.index)
        return cls(inputs, store.labels, train, store.rows("val"), classes, views, len(train) / len(rows))

    def epochs(self, recipe: Training) -> int:
        """Return how many epochs a recipe takes here: epochs / sqrt(share) where it stretches over fewer."""
        return math.ceil(recipe.epochs / math.sqrt(self.share)) if recipe.stretch else recipe.epochs

    def with_val(self) -> Examples:
        """Return the examples with val among what is learnt from, and nothing left as val."""
        both = np.sort(np.concatenate([self.train, self.val]))
        return replace(self, train=both, val=self.val[:0])

    def shown(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return positions in inputs of a randomly drawn view of each of rows."""
        if self.views == 1:
            return rows
        return rows + len(self.labels) * generator.integers(0, self.views, rows.shape)
