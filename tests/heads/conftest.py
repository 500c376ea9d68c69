"""Examples that are not linearly separable, and the same with two equal views."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.heads.data import HeadData
from pipeline.training.examples import Examples


@pytest.fixture
def overlapping() -> HeadData:
    """Four overlapping classes of 80 points in ten dimensions of different scales; the last 80 are val."""
    rng = np.random.default_rng(2)
    labels = np.arange(320) % 4
    centers = rng.normal(size=(4, 10))
    inputs = (centers[labels] + 1.2 * rng.normal(size=(320, 10))) * np.geomspace(0.1, 50, 10) + 3
    train, val = np.arange(240), np.arange(240, 320)
    return HeadData(Examples(inputs.astype(np.float32), labels.astype(np.int64), train, val, 4))


@pytest.fixture
def with_equal_views() -> Callable[[HeadData], HeadData]:
    """Return a function that adds a second view, equal to the first, to data."""

    def add_view(data: HeadData) -> HeadData:
        inputs = np.concatenate([data.examples.inputs] * 2)
        return HeadData(dataclasses.replace(data.examples, inputs=inputs, views=2))

    return add_view
