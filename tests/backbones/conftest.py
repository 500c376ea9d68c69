"""Random weights, and weight files in Keras's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from pipeline.backbones.table import BACKBONES, choose_weights
from pipeline.backbones.weights import random_arrays

VGG16 = BACKBONES["vgg16"]


@pytest.fixture(scope="session")
def arrays() -> dict:
    return random_arrays(VGG16, seed=1)


@pytest.fixture(scope="session")
def published_layout(tmp_path_factory, arrays) -> Path:
    """A file in the layout of Keras's published notop files; read-only, copy it before changing it."""
    path = tmp_path_factory.mktemp("weights") / "notop.h5"
    with h5py.File(path, "w") as file:
        for layer, (kernel, bias) in arrays.items():
            file[f"{layer}/{layer}_W_1:0"] = kernel
            file[f"{layer}/{layer}_b_1:0"] = bias
        for pool in VGG16.taps:
            file.create_group(pool)
    return path


@pytest.fixture
def notop(tmp_path, published_layout) -> Path:
    path = tmp_path / "notop.h5"
    path.write_bytes(published_layout.read_bytes())
    return path


@pytest.fixture
def fingerprint() -> Callable[[str], dict]:
    """Return a function from a choice of weights to the fingerprint of their download."""

    def make(text: str) -> dict:
        choice = choose_weights(text, "vgg16")
        return {"backbone": "vgg16", "weights": choice.identity}

    return make
