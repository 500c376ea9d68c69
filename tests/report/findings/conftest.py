"""Small sources for findings, in which tests plant faults."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import CLASSES, TRAIN, VAL, Features, run_on, write_images

from pipeline.datasets.table import SPLITS
from pipeline.report.findings.sources import FindingSources


@pytest.fixture
def make_sources(tmp_path):
    """Return a function that makes FindingSources; by default, labels have a probability of 0.8."""

    def make(images: np.ndarray, probabilities: np.ndarray | None = None, val: int = VAL) -> FindingSources:
        split = np.repeat(list(SPLITS.values()), [TRAIN, val, len(images) - TRAIN - val]).astype(np.uint8)
        store = write_images(tmp_path / "images", images, split)
        if probabilities is None:
            labels = store.labels[TRAIN:]
            probabilities = np.full((len(labels), len(CLASSES)), 0.1)
            probabilities[np.arange(len(labels)), labels] = 0.8
        return FindingSources(run_on(store, probabilities), store, Features(store), ("block1_pool",))

    return make
