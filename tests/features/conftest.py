"""Session fixtures: a hundred digits, random weights, and features extracted from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from caches import CHOICE, DATASET, extract_to

from pipeline.backbones.weights import obtain_weights
from pipeline.datasets.store import prepare


@pytest.fixture(scope="session")
def sources(made_once) -> SimpleNamespace:
    """The folders of the data set and of the weights."""
    folder = made_once("sources", _make_sources)
    return SimpleNamespace(dataset=folder / "digits", weights=folder / "weights")


def _make_sources(folder: Path) -> None:
    folder.mkdir()
    prepare(DATASET, None, str(folder / "digits"))
    weights = {"backbone": "vgg16", "weights": CHOICE.identity}
    obtain_weights(weights, "", str(folder / "weights"), str(folder), [])


@pytest.fixture
def extracted(sources, tmp_path) -> Callable[..., Path]:
    """Return a function that extracts features and returns their folder."""

    def make(folder: str = "features", **changes) -> Path:
        extract_to(tmp_path / folder, sources, **changes)
        return tmp_path / folder

    return make


@pytest.fixture(scope="session")
def cached(sources, made_once) -> Path:
    """A finished cache: ten shards of ten images; read-only."""
    return made_once("cached", lambda folder: extract_to(folder, sources, shard_rows=10))


@pytest.fixture
def copied(cached, tmp_path) -> Path:
    """A copy of the finished cache that tests may damage."""
    return shutil.copytree(cached, tmp_path / "copied")
