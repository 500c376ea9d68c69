"""The input and output of a scheme's training function."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import keras
import numpy as np

from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.features.store import FeatureStore
from pipeline.progress import Progress
from pipeline.recipes.base import BaseRecipe
from pipeline.recipes.fine_tune import Prefix
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.history import Clock, History
from pipeline.training.loop import fit

Recipe = TypeVar("Recipe", bound=BaseRecipe)


@dataclass(frozen=True)
class Job(Generic[Recipe]):
    """The input of a scheme's training function; what the scheme does not use is None.

    A head is fitted on features. maps are the cached feature maps at the cut of a fine-tuned network, and
    prefix describes them. sweep is the folder of the sweep that selected a head's settings.
    """

    recipe: Recipe
    seed: int
    images: ImageStore
    features: FeatureStore | None
    weights: Path | None
    backbone: str
    input_size: int  # pixels per side that the network sees
    clock: Clock
    progress: Progress
    sweep: Path | None = None
    maps: FeatureStore | None = None
    prefix: Prefix | None = None
    checkpoint: Checkpoint | None = None
    splits: tuple[str, ...] = ("val", "test")  # to predict after training
    on_epoch_end: Callable[[History], None] | None = None

    @property
    def fit(self) -> functools.partial[None]:
        """loop.fit with the seed and callbacks of this job."""
        return functools.partial(
            fit,
            seed=self.seed,
            progress=self.progress,
            checkpoint=self.checkpoint,
            on_epoch_end=self.on_epoch_end,
        )

    def rows(self) -> np.ndarray:
        """Return positions (n,) of the images to predict in the data set, without val if it is trained on."""
        codes = [SPLITS[name] for name in self.splits if not (name == "val" and self.recipe.fits_val)]
        return np.flatnonzero(np.isin(self.images.split, codes))


@dataclass(frozen=True)
class TrainingResult:
    """The output of a scheme's training function.

    probabilities (N, C) float32 correspond to rows (N,), positions in the data set. backbone_parameters
    counts the backbone's parameters below cached features, which the model file does not contain. n_train is
    the number of training images, by default all. settings are those that a search selected in tune_seconds.
    facts are further fields of recipe.json.
    """

    model: keras.Model
    history: History
    rows: np.ndarray
    probabilities: np.ndarray
    backbone_parameters: int = 0
    n_train: int | None = None
    settings: dict[str, Any] | None = None
    tune_seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
