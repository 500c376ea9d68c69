"""Helpers that build small feature caches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.backbones.table import choose_weights
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.features import sections
from pipeline.features.extract import extract
from pipeline.features.sections import cache_fingerprint

DATASET = dataset_fingerprint("digits", subset=100, split_seed=0)
CHOICE = choose_weights("random", "vgg16")
LAYERS = ("block1_pool", "block2_pool")


def base_of(**changes) -> dict:
    """Return the fingerprint of a cache; changes replace arguments of cache_fingerprint."""
    settings = {"dataset": DATASET, "backbone": "vgg16", "weights": CHOICE, "precision": "float32"}
    return cache_fingerprint(**{**settings, **changes})


def extract_to(
    folder: Path,
    sources: SimpleNamespace,
    *,
    shard_rows: int = 100,
    layers=LAYERS,
    views=("identity",),
    **changes,
) -> dict:
    """Extract features to folder in shards of shard_rows images; return the costs of each section."""
    folders = {"dataset": str(sources.dataset), "weights": str(sources.weights), "folder": str(folder)}
    options = {name: changes.pop(name) for name in ("part", "parts", "averages") if name in changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "SHARD_BYTES", 1)  # a shard holds at least one pass
        patch.setattr(sections, "shard_step", lambda base: shard_rows)
        request = {**base_of(**changes), "layers": list(layers), "views": list(views)}
        return extract(request, **folders, **options)


def section_of(folder: Path, *, layers=LAYERS, view: str = "identity", **changes) -> sections.Section:
    """Return a section of the cache at folder."""
    return sections.Section(folder, base_of(**changes), view, tuple(layers))
