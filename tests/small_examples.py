"""Fixtures shared by several test folders: digits, random weights, their features, toy examples."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pipeline.backbones.table import BACKBONES, choose_weights
from pipeline.backbones.weights import WEIGHTS_FILE, publish_weights, random_arrays, read_keras_notop
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import prepare
from pipeline.features.extract import extract
from pipeline.features.sections import cache_fingerprint
from pipeline.training.examples import Examples
from pipeline.training.stage import Stage

DIGITS = dataset_fingerprint("digits", subset=100, split_seed=0)


@pytest.fixture(autouse=True)
def reset_dtype_policy() -> Iterator[None]:
    """Reset Keras's global dtype policy after a test."""
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Path:
    """A folder shared by the tests of one process."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function that creates a named folder once; other test processes wait for it and share it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def digits(made_once) -> Path:
    """The folder of a prepared data set with one hundred digits."""
    return made_once("digits", lambda folder: prepare(DIGITS, None, str(folder)))


@pytest.fixture(scope="session")
def weights(made_once) -> Path:
    """The folder of random weights for VGG16."""
    fingerprint = {"backbone": "vgg16", "weights": choose_weights("random", "vgg16").identity}

    def make(folder: Path) -> None:
        publish_weights(folder, fingerprint, random_arrays(BACKBONES["vgg16"], seed=0), {})

    return made_once("weights", make)


@pytest.fixture(scope="session")
def arrays(weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The arrays of those weights."""
    return read_keras_notop(weights / WEIGHTS_FILE, BACKBONES["vgg16"])


@pytest.fixture(scope="session")
def features(made_once, digits, weights) -> Path:
    """The feature cache of the digits: every layer, two views, float32."""
    base = cache_fingerprint(
        DIGITS, backbone="vgg16", weights=choose_weights("random", "vgg16"), precision="float32"
    )

    def make(folder: Path) -> None:
        folders = {"dataset": str(digits), "weights": str(weights), "folder": str(folder)}
        columns = {"layers": list(BACKBONES["vgg16"].taps), "views": ["identity", "hflip"]}
        extract({**base, **columns}, **folders)

    return made_once("features", make)


@pytest.fixture
def toy() -> Examples:
    """Three linearly separable classes of 16 points in four dimensions; the last 12 are val."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    inputs = 4 * np.eye(4)[labels] + rng.normal(scale=0.5, size=(48, 4))
    return Examples(inputs.astype(np.float32), labels.astype(np.int64), np.arange(36), np.arange(36, 48), 3)


@pytest.fixture
def pictures() -> Examples:
    """Sixteen noise images of 32 px in two classes; the last four are val."""
    images = np.random.default_rng(1).integers(0, 256, size=(16, 32, 32, 3)).astype(np.uint8)
    return Examples(images, np.arange(16, dtype=np.int64) % 2, np.arange(12), np.arange(12, 16), 2)


@pytest.fixture
def make_stage() -> Callable[..., Stage]:
    """Return a function that makes a one-epoch stage; changes replace its default settings."""

    def make(name: str = "blocks", **changes) -> Stage:
        defaults = {
            **{"epochs": 1, "batch_size": 4, "optimizer": "adamw", "learning_rate": 0.01},
            **{"lr_schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0},
        }
        return Stage(name, **{**defaults, **changes})

    return make
