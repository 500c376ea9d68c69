"""A hundred digits and random weights, made once, and the features of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.backbones.table import choose_weights
from pipeline.backbones.weights import obtain_weights
from pipeline.datasets.store import prepare
from pipeline.datasets.table import dataset_fingerprint
from pipeline.features import extract as module
from pipeline.features.fingerprint import feature_fingerprint

DATASET = dataset_fingerprint("digits", subset=100, split_seed=0)
CHOICE = choose_weights("random", "vgg16")


def fingerprint_of(**changes) -> dict:
    """Return a fingerprint of cheap features; changes replace arguments of feature_fingerprint."""
    wanted = {"backbone": "vgg16", "weights": CHOICE, "layers": "block1_pool,block2_pool"}
    wanted |= {"pooling": "average", "precision": "float32"}
    return feature_fingerprint(**{"dataset": DATASET, **wanted, **changes})


@pytest.fixture
def fingerprint() -> Callable[..., dict]:
    return fingerprint_of


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> SimpleNamespace:
    """The folders of the data set and of the weights."""
    folder = tmp_path_factory.mktemp("sources")
    prepare(DATASET, None, str(folder / "digits"))
    weights = {"backbone": "vgg16", "name": CHOICE.name, "identity": CHOICE.identity}
    obtain_weights(weights, "random", str(folder / "weights"), str(folder), [])
    return SimpleNamespace(dataset=folder / "digits", weights=folder / "weights")


def extract_to(folder: Path, sources: SimpleNamespace, *, shard_rows: int = 100, **changes) -> dict:
    """Extract features to folder in shards of shard_rows images; return the costs."""
    places = {"dataset": str(sources.dataset), "weights": str(sources.weights), "folder": str(folder)}
    kept, module.SHARD_BYTES = module.SHARD_BYTES, 1  # a batch is the least that a shard holds
    try:
        return module.extract(fingerprint_of(**changes), **places, batch_size=shard_rows)
    finally:
        module.SHARD_BYTES = kept


@pytest.fixture
def extracted(sources, tmp_path) -> Callable[..., Path]:
    """Return a function that extracts features and returns their folder."""

    def make(folder: str = "features", **changes) -> Path:
        extract_to(tmp_path / folder, sources, **changes)
        return tmp_path / folder

    return make


@pytest.fixture(scope="session")
def undisturbed(sources, tmp_path_factory) -> Path:
    """Features in ten shards of ten images; read-only."""
    folder = tmp_path_factory.mktemp("undisturbed")
    extract_to(folder, sources, shard_rows=10)
    return folder


@pytest.fixture
def copied(undisturbed, tmp_path) -> Path:
    """A copy of the ten shards, to damage."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in undisturbed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder
