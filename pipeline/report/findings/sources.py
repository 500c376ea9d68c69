"""What findings start from: a run's answers on images that it was not trained on, the images, features."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.errors import DamagedFile
from pipeline.features.store import FeatureStore
from pipeline.progress import Progress, silent
from pipeline.runs.result import EVALUATED, Predictions, RunResult

SPLIT_NAMES = {code: name for name, code in SPLITS.items()}


@dataclass(frozen=True, eq=False)
class Sources:
    """A run, its data set, and cached features of the same images; layers names those that are compared.

    Raises DamagedFile when the run or the features are of other images than the data set.
    """

    run: RunResult
    images: ImageStore
    features: FeatureStore
    layers: tuple[str, ...]
    progress: Progress = silent

    def __post_init__(self) -> None:
        same = len(self.features.index) == len(self.images)
        if not (same and (self.features.index == self.images.index).all()):
            raise _strangers(self.features.folder, self.images)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """All images, (N, height, width, 3) uint8, in the data set's order."""
        return self.images.images()

    @functools.cached_property
    def unseen(self) -> Predictions:
        """The run's answers on images that it was not trained on: val, then test; no val if fitted on it."""
        parts = [self.run.split(name) for name in EVALUATED]
        columns = ("index", "names", "labels", "probabilities")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        unseen = Predictions(**joined, class_names=parts[0].class_names)
        rows = self._rows(unseen.index)
        if (rows < 0).any() or (self.images.labels[rows] != unseen.labels).any():
            raise _strangers(self.run.folder, self.images)
        return unseen

    def _rows(self, index: np.ndarray) -> np.ndarray:
        """Return the rows of the data set by position in the source; -1 where it has no such image."""
        return pd.Index(self.images.index).get_indexer(pd.Index(index))

    def image(self, index: int) -> np.ndarray:
        """Return the image, (height, width, 3) uint8, of a position in the source."""
        return self.pixels[self._rows(np.array([index]))[0]]

    def ranked(self, rows: np.ndarray) -> pd.DataFrame:
        """Return rank, split, index, name and label of rows (k,) of the data set, in the order given."""
        images = self.images
        columns = {
            "rank": range(1, len(rows) + 1),
            "split": [SPLIT_NAMES[code] for code in images.split[rows]],
            "index": images.index[rows],
            "name": [images.names[row] for row in rows],
            "label": [images.class_names[label] for label in images.labels[rows]],
        }
        return pd.DataFrame(columns)

    def table(self, chosen: np.ndarray) -> pd.DataFrame:
        """Return unseen images by position (k,) int64, ranked, with predicted, p_label and p_predicted.

        The latter two are the probabilities of the label and of the most probable class.
        """
        labels, probabilities = self.unseen.labels[chosen], self.unseen.probabilities[chosen]
        each, predicted = np.arange(len(chosen)), probabilities.argmax(axis=1)
        return self.ranked(self._rows(self.unseen.index[chosen])).assign(
            predicted=[self.images.class_names[label] for label in predicted],
            p_label=probabilities[each, labels].astype(np.float64).round(6),
            p_predicted=probabilities[each, predicted].astype(np.float64).round(6),
        )


def _strangers(folder: Path, images: ImageStore) -> DamagedFile:
    return DamagedFile(
        f"{folder}: expected the images and labels of {images.path.parent}, found others; "
        "delete both folders and run again"
    )
