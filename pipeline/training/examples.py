"""Training data of a classifier: inputs, labels, and which rows are train and val."""

import math
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import numpy as np

from pipeline.datasets.split import budget_rows
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import ALL_LABELS
from pipeline.features.store import FeatureStore, MappedRows
from pipeline.recipes.base import TrainingRecipe

Inputs: TypeAlias = np.ndarray | MappedRows  # (N, …): in memory, or read from a file when rows are indexed


@dataclass(frozen=True)
class Examples:
    """Training data of a classifier: inputs (N, …) uint8 images or features, labels (N,) int64.

    train and val are row numbers (n,); classes is the number of classes. With several views, inputs has a
    block of len(labels) rows for each view: each epoch draws a random view of each example, and predictions
    are averaged over the views. With cached_augmentation, inputs has a block for each of
    views.augmentation_views instead: each step draws among them instead of augmenting images, and
    predictions use the first, the unchanged image.
    """

    inputs: Inputs
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    classes: int
    views: int = 1
    share: float = 1.0  # fraction of all training images that train contains
    cached_augmentation: bool = False

    @classmethod
    def of(
        cls,
        store: ImageStore | FeatureStore,
        inputs: Inputs,
        classes: int,
        views: int = 1,
        *,
        budget: str = ALL_LABELS,
    ) -> Self:
        """Return the examples of a store and a label budget; inputs has a block of its rows for each view."""
        rows = store.rows("train")
        train = budget_rows(store.labels, rows, budget, store.index)
        return cls(inputs, store.labels, train, store.rows("val"), classes, views, len(train) / len(rows))

    def epochs(self, recipe: TrainingRecipe) -> int:
        """Return how many epochs to train: the recipe's, divided by sqrt(share) if it sets stretch."""
        return math.ceil(recipe.epochs / math.sqrt(self.share)) if recipe.stretch else recipe.epochs

    def with_val(self) -> Self:
        """Return the examples with val merged into train; val becomes empty."""
        merged = np.sort(np.concatenate([self.train, self.val]))
        return replace(self, train=merged, val=self.val[:0])

    def sample_views(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return rows of inputs, with a random view of each of rows."""
        if self.views == 1:
            return rows
        return rows + len(self.labels) * generator.integers(0, self.views, rows.shape)
