"""What findings start from: a run's answers on images that it was not trained on, the images, features."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.features.store import FeatureStore
from pipeline.progress import Progress, silent
from pipeline.runs.result import EVALUATED, RunResult, read_run

IMAGE_COLUMNS = ("split", "index", "name", "label", "predicted", "p_label", "p_predicted")


@dataclass(frozen=True, eq=False)
class Unseen:
    """The images that a run answered and was not trained on, val before test; a run fitted on val has no val.

    rows is (n,) int64, positions in the data set; labels (n,) int64; probabilities (n, C) float32.
    """

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


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
    def unseen(self) -> Unseen:
        """The run's answers on val and test."""
        parts = [self.run.split(name) for name in EVALUATED]
        index = np.concatenate([part.index for part in parts])
        rows = np.array([self._position.get(one, -1) for one in index.tolist()], dtype=np.int64)
        labels = np.concatenate([part.labels for part in parts])
        if (rows < 0).any() or (self.images.labels[rows] != labels).any():
            raise _strangers(self.run.folder, self.images)
        return Unseen(rows, labels, np.concatenate([part.probabilities for part in parts]))

    @functools.cached_property
    def _position(self) -> dict[int, int]:
        """The row of the data set by position in the source."""
        return {index: row for row, index in enumerate(self.images.index.tolist())}

    def image(self, index: int) -> np.ndarray:
        """Return the image, (height, width, 3) uint8, of a position in the source."""
        return self.pixels[self._position[int(index)]]

    def split_of(self, rows: np.ndarray) -> list[str]:
        """Return the split of each row, "train", "val" or "test"."""
        names = {code: name for name, code in EVALUATED.items()}
        return [names.get(int(code), "train") for code in self.images.split[rows]]

    def class_of(self, row: int) -> str:
        """Return the class of a row of the data set by name."""
        return self.images.class_names[self.images.labels[row]]

    def table(self, chosen: np.ndarray) -> pd.DataFrame:
        """Return IMAGE_COLUMNS of unseen images by position (k,) int64, in the order given.

        p_label and p_predicted are the probabilities of the label and of the most probable class.
        """
        rows, labels = self.unseen.rows[chosen], self.unseen.labels[chosen]
        probabilities = self.unseen.probabilities[chosen]
        each, predicted = np.arange(len(chosen)), probabilities.argmax(axis=1)
        columns = (
            self.split_of(rows),
            self.images.index[rows],
            [self.images.names[row] for row in rows],
            [self.images.class_names[label] for label in labels],
            [self.images.class_names[label] for label in predicted],
            probabilities[each, labels].astype(np.float64).round(6),
            probabilities[each, predicted].astype(np.float64).round(6),
        )
        return pd.DataFrame(dict(zip(IMAGE_COLUMNS, columns, strict=True)))


def read_sources(
    run: str, dataset: str, features: str, layers: list[str], progress: Progress = silent
) -> Sources:
    """Return the sources in the folders of a run, of its data set and of cached features."""
    return Sources(read_run(Path(run)), ImageStore(dataset), FeatureStore(features), tuple(layers), progress)


def _strangers(folder: Path, images: ImageStore) -> DamagedFile:
    return DamagedFile(
        f"{folder}: expected the images and labels of {images.path.parent}, found others; "
        "delete both folders and run again"
    )
