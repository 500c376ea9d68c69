"""Training data of a classifier: inputs, labels, and which rows are train and val."""

import math
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np

from pipeline.datasets.split import budget_rows
from pipeline.datasets.store import ImageStore
from pipeline.errors import BadInput
from pipeline.features.store import MappedRows
from pipeline.recipes.base import BALANCED, BaseRecipe, TrainingRecipe

Inputs: TypeAlias = np.ndarray | MappedRows  # (N, …): in memory, or read from a file when rows are indexed


@dataclass(frozen=True)
class Examples:
    """Training data of a classifier: inputs (N, …) uint8 images or features, labels (N,) int64.

    train and val are row numbers (n,); classes is the number of classes. With several views, inputs has a
    block of len(labels) rows for each view: each epoch draws a random view of each example, and predictions
    are averaged over the views. With cached_augmentation, inputs has a block for each of
    views.augmentation_views instead: each step draws among them instead of augmenting images, and
    predictions use the first, the unchanged image. weights (N,) are the images' own weights in the loss,
    None if all are 1; balanced classes are weighted as well.
    """

    inputs: Inputs
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    classes: int
    views: int = 1
    share: float = 1.0  # fraction of all training images that train contains
    cached_augmentation: bool = False
    weights: np.ndarray | None = None
    balanced: bool = False

    @classmethod
    def of(cls, images: ImageStore, inputs: Inputs, recipe: BaseRecipe, views: int = 1) -> Self:
        """Return the examples of a data set, with a recipe's label budget and class weights.

        inputs has a block of the data set's rows for each view. A recipe that is fitted on val as well has
        all of it in train.
        """
        rows, labels, val = images.rows("train"), images.labels, images.rows("val")
        train = budget_rows(labels, rows, recipe.label_budget, images.index)
        classes, share = len(images.class_names), len(train) / len(rows)
        if recipe.fits_val:
            train, val = np.sort(np.concatenate([train, val])), val[:0]
        balanced = recipe.class_weights == BALANCED
        return cls(
            inputs, labels, train, val, classes, views, share, weights=images.weights, balanced=balanced
        )

    @property
    def loss_weights(self) -> np.ndarray | None:
        """The weight (N,) float32 of each image in the training loss, None if all are 1.

        A balanced class weighs n / (k n_c), as with class_weight="balanced" in scikit-learn: n is the sum of
        the weights in train, n_c that of the class, k the number of classes in train.
        """
        if self.weights is None and not self.balanced:
            return None
        weights = np.ones(len(self.labels)) if self.weights is None else self.weights.astype(np.float64)
        if not weights[self.train].any():
            raise BadInput("expected a training image with a weight above 0 in the table, found none")
        if self.balanced:
            sums = np.bincount(self.labels[self.train], weights[self.train], self.classes)
            weights = weights * (sums.sum() / np.count_nonzero(sums) / np.where(sums, sums, 1))[self.labels]
        return weights.astype(np.float32)

    def epochs(self, recipe: TrainingRecipe) -> int:
        """Return how many epochs to train: the recipe's, divided by sqrt(share) if it sets stretch."""
        return math.ceil(recipe.epochs / math.sqrt(self.share)) if recipe.stretch else recipe.epochs
