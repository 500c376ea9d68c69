"""What a scheme's training function is given, and what it returns."""

from __future__ import annotations

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
from pipeline.recipes.base import Labelled
from pipeline.recipes.prefix import Prefix
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.history import Clock, History
from pipeline.training.loop import fit

Recipe = TypeVar("Recipe", bound=Labelled)


@dataclass(frozen=True)
class Job(Generic[Recipe]):
    """What a scheme's training function is given; inputs of other schemes are None.

    features are those that a head is fitted on, maps those at the cut of a network whose frozen part is
    cached, prefix says which these are; sweep is the folder of the sweep that chose a head.
    """

    recipe: Recipe
    seed: int
    images: ImageStore
    features: FeatureStore | None
    weights: Path | None
    backbone: str
    clock: Clock
    progress: Progress
    sweep: Path | None = None
    maps: FeatureStore | None = None
    prefix: Prefix | None = None
    checkpoint: Checkpoint | None = None
    splits: tuple[str, ...] = ("val", "test")  # whose images the trained network is asked about
    watch: Callable[[History], None] | None = None  # called after each epoch

    @property
    def fit(self) -> functools.partial[None]:
        """The function loop.fit with what the job says; keywords of a call come last."""
        return functools.partial(
            fit, seed=self.seed, progress=self.progress, checkpoint=self.checkpoint, watch=self.watch
        )

    def rows(self) -> np.ndarray:
        """Return the positions (n,) of the images that the trained network is asked about.

        They come in the data set's order; val is left out where it was trained on.
        """
        asked = [SPLITS[name] for name in self.splits if not (name == "val" and self.recipe.fits_val)]
        return np.flatnonzero(np.isin(self.images.split, asked))


@dataclass(frozen=True)
class Trained:
    """What a scheme's training function returns.

    probabilities (N, C) float32 has a row for each row of rows (N,), positions in the data set.
    backbone_parameters are those that the model file does not hold because features stand before it.
    n_train is how many images it was trained on, by default all training images. settings are those that
    were used where a search chose them, which took tune_seconds. facts say what else is worth knowing of
    the training, and go into its recipe.json.
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
