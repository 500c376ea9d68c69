"""Noise images to train on, and stages to train in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.training.loop import Examples, Stage


@pytest.fixture
def pictures() -> Examples:
    """Sixteen noise images of 32 px in two classes; the last four are val."""
    images = np.random.default_rng(1).integers(0, 256, size=(16, 32, 32, 3)).astype(np.uint8)
    return Examples(images, np.arange(16, dtype=np.int64) % 2, np.arange(12), np.arange(12, 16), 2)


@pytest.fixture
def make_stage() -> Callable[..., Stage]:
    """Return a function that makes a plain stage of one epoch; changes replace its settings."""

    def make(name: str = "blocks", **changes) -> Stage:
        plain = {
            **{"epochs": 1, "batch_size": 4, "optimizer": "adamw", "learning_rate": 0.01},
            **{"lr_schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0},
        }
        return Stage(name, **{**plain, **changes})

    return make
