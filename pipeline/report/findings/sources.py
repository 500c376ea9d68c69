"""The inputs of findings: a run's predictions on held-out images, the images, and cached features."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.datasets.pictures import fit_picture
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import SMALLEST_IMAGE, SPLIT_NAMES
from pipeline.errors import DamagedFile
from pipeline.features.store import FeatureStore
from pipeline.progress import Progress, silent
from pipeline.runs.result import EVALUATED, Predictions, RunResult


@dataclass(frozen=True, eq=False)
class FindingSources:
    """A run, its data set, and cached features of the same images; layers are compared for duplicates.

    Raises DamagedFile if the run or the features have other images than the data set.
    """

    run: RunResult
    images: ImageStore
    features: FeatureStore
    layers: tuple[str, ...]
    progress: Progress = silent

    def __post_init__(self) -> None:
        if not np.array_equal(self.features.index, self.images.index):
            raise _other_images(self.features.folder, self.images)

    @functools.cached_property
    def thumbnails(self) -> np.ndarray:
        """All images at SMALLEST_IMAGE pixels per side, (N, 32, 32, 3) uint8, for comparing pairs."""
        images = self.images.images
        if self.images.image_size == SMALLEST_IMAGE:
            return images
        thumbnails = np.empty((len(images), SMALLEST_IMAGE, SMALLEST_IMAGE, 3), np.uint8)
        for row, image in enumerate(images):
            thumbnails[row] = fit_picture(Image.fromarray(image), SMALLEST_IMAGE)
        return thumbnails

    @functools.cached_property
    def held_out(self) -> Predictions:
        """The run's predictions on val, then test, which it was not trained on; no val if fitted on it."""
        parts = [self.run.split(name) for name in EVALUATED]
        columns = ("index", "names", "labels", "probabilities")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        held_out = Predictions(**joined, class_names=parts[0].class_names)
        rows = self._rows(held_out.index)
        if (rows < 0).any() or (self.images.labels[rows] != held_out.labels).any():
            raise _other_images(self.run.folder, self.images)
        return held_out

    def _rows(self, index: np.ndarray) -> np.ndarray:
        """Return the rows of the data set for indices in the source; -1 if it has no such image."""
        return pd.Index(self.images.index).get_indexer(pd.Index(index))

    def image(self, index: int) -> np.ndarray:
        """Return the image, (height, width, 3) uint8, at an index in the source."""
        return self.images.images[self._rows(np.array([index]))[0]]

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

    def table(self, positions: np.ndarray) -> pd.DataFrame:
        """Return held-out images by position (k,) int64, ranked, with predicted, p_label and p_predicted.

        p_label and p_predicted are the probabilities of the label and of the most probable class.
        """
        labels, probabilities = self.held_out.labels[positions], self.held_out.probabilities[positions]
        each, predicted = np.arange(len(positions)), probabilities.argmax(axis=1)
        return self.ranked(self._rows(self.held_out.index[positions])).assign(
            predicted=[self.images.class_names[label] for label in predicted],
            p_label=probabilities[each, labels].astype(np.float64).round(6),
            p_predicted=probabilities[each, predicted].astype(np.float64).round(6),
        )


def _other_images(folder: Path, images: ImageStore) -> DamagedFile:
    return DamagedFile(
        f"{folder}: its images or labels differ from those of {images.path.parent}; "
        "delete both folders and run again"
    )
