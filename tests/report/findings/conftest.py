"""Findings start from sources; here they are small, and a test plants in them what is to be found."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import CLASSES, TRAIN, VAL, Features, run_on, write_images

from pipeline.datasets.table import SPLITS
from pipeline.report.findings.sources import Sources


@pytest.fixture
def make_sources(tmp_path):
    """Return a function that makes Sources: TRAIN, then val, then TEST images; true classes get 0.8."""

    def make(images: np.ndarray, probabilities: np.ndarray | None = None, val: int = VAL) -> Sources:
        split = np.repeat(list(SPLITS.values()), [TRAIN, val, len(images) - TRAIN - val]).astype(np.uint8)
        store = write_images(tmp_path / "images", images, split)
        if probabilities is None:
            labels = store.labels[TRAIN:]
            probabilities = np.full((len(labels), len(CLASSES)), 0.1)
            probabilities[np.arange(len(labels)), labels] = 0.8
        return Sources(run_on(store, probabilities), store, Features(store), ("block1_pool",))

    return make
