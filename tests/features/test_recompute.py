"""Cached rows are recomputed from their images: matching shards pass, others are listed as damaged."""

from __future__ import annotations

import math
import shutil
from types import SimpleNamespace

import h5py
import pytest
from caches import base_of, section_of

from pipeline.features.verify import TOLERANCES, compare_sections, tolerance
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import MANIFEST, publish_sealed, read_sealed


def compare(folder, sources, *, sample: int = 100, seed: int = 0) -> dict:
    """Recompute rows of the one section at folder."""
    section = {"folder": str(folder), "dataset": str(sources.dataset), "weights": str(sources.weights)}
    (comparison,) = compare_sections([section], sample, seed)
    return comparison


@pytest.mark.parametrize("changes", [{}, {"views": ("hflip+left2",)}, {"storage": "float16"}])
def test_recomputed_rows_match_the_stored_ones(extracted, sources, changes):
    cache = extracted(shard_rows=30, layers=("block1_pool",), **changes)
    comparison = compare(next(path.parent for path in cache.glob(f"*/{MANIFEST}")), sources)
    assert (comparison["rows"], comparison["damaged"]) == (100, {})
    assert comparison["layers"]["block1_pool"][1] <= comparison["tolerance"] / 10


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("features/block2_pool", lambda values: values[::-1], "block2_pool differs by"),
        ("features/block1_pool", lambda values: values * 1.001, "block1_pool differs by"),
        ("features/block1_pool", lambda values: values * math.nan, "block1_pool differs by inf"),
        ("labels", lambda values: (values + 1) % 10, "labels does not match the images"),
        ("index", lambda values: values[::-1], "index does not match the images"),
    ],
)
def test_only_the_shard_that_does_not_match_is_damaged(copied, sources, name, change, why):
    section = section_of(copied)
    with h5py.File(section.shard(4), "r+") as file:
        file[name][:] = change(file[name][:])
    comparison = compare(section.folder, sources)
    assert list(comparison["damaged"]) == ["shard-00004.h5"]
    assert why in comparison["damaged"]["shard-00004.h5"]


@pytest.mark.slow
def test_sampled_rows_depend_on_the_seed(copied, sources):
    section = section_of(copied)
    for number in range(5):
        with h5py.File(section.shard(number), "r+") as file:
            file["labels"][:] = 99
    damaged = [
        bool(compare(section.folder, sources, sample=1, seed=seed)["damaged"]) for seed in (*range(8), 0)
    ]
    assert damaged[0] == damaged[-1]
    assert {*damaged} == {True, False}


def test_shard_without_features_is_damaged(copied, sources):
    section = section_of(copied)
    with h5py.File(section.shard(2), "r+") as file:
        del file["features/block1_pool"]
    assert "could not be read" in compare(section.folder, sources)["damaged"]["shard-00002.h5"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("convolutions", "another", "another version of the algorithm"),
        ("layers", None, "does not describe features"),
    ],
)
def test_features_that_cannot_be_recomputed_have_a_reason(copied, sources, field, value, message):
    folder = section_of(copied).folder
    content = read_sealed(folder / MANIFEST)
    content["fingerprint"][field] = value
    key = content["key"] = key_of(content["fingerprint"])
    publish_sealed(folder / MANIFEST, content)
    assert message in compare(folder.rename(folder.with_name(f"identity-{key}")), sources)["refused"]


def test_damaged_images_are_given_as_the_reason(copied, sources, tmp_path, flip_byte):
    images = shutil.copytree(sources.dataset, tmp_path / "images")
    flip_byte(images / "dataset.h5")
    comparison = compare(section_of(copied).folder, SimpleNamespace(dataset=images, weights=sources.weights))
    assert "expected sha256" in comparison["refused"]


def test_tolerance_allows_for_rounding_to_the_storage_type():
    assert tolerance(base_of()) == TOLERANCES["float32"]
    assert tolerance(base_of(storage="float16")) == pytest.approx(TOLERANCES["float32"] + 2**-10)
