"""A hundred digits and random weights, made once, and the features of both."""

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
    weights = {"backbone": "vgg16", "name": CHOICE.name, "identity": CHOICE.identity}
    obtain_weights(weights, "random", str(folder / "weights"), str(folder), [])


@pytest.fixture
def extracted(sources, tmp_path) -> Callable[..., Path]:
    """Return a function that extracts features and returns their folder."""

    def make(folder: str = "features", **changes) -> Path:
        extract_to(tmp_path / folder, sources, **changes)
        return tmp_path / folder

    return make


@pytest.fixture(scope="session")
def undisturbed(sources, made_once) -> Path:
    """Features in ten shards of ten images; read-only."""
    return made_once("undisturbed", lambda folder: extract_to(folder, sources, shard_rows=10))


@pytest.fixture
def copied(undisturbed, tmp_path) -> Path:
    """A copy of the ten shards, to damage."""
    return shutil.copytree(undisturbed, tmp_path / "copied")
