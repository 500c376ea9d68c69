"""Cached rows are computed again from their images: what is as it was passes, what is not is named."""

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
    order = {"folder": str(folder), "dataset": str(sources.dataset), "weights": str(sources.weights)}
    (answer,) = compare_sections([order], sample, seed)
    return answer


@pytest.mark.parametrize("changes", [{}, {"views": ("hflip+left2",)}, {"storage": "float16"}])
def test_rows_of_every_shard_come_out_as_stored(extracted, sources, changes):
    cache = extracted(shard_rows=30, layers=("block1_pool",), **changes)
    answer = compare(next(path.parent for path in cache.glob(f"*/{MANIFEST}")), sources)
    assert (answer["rows"], answer["damaged"]) == (100, {})
    assert answer["layers"]["block1_pool"][1] <= answer["tolerance"] / 10


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("features/block2_pool", lambda values: values[::-1], "block2_pool differs by"),
        ("features/block1_pool", lambda values: values * 1.001, "block1_pool differs by"),
        ("features/block1_pool", lambda values: values * math.nan, "block1_pool differs by inf"),
        ("labels", lambda values: (values + 1) % 10, "labels is not that of the images"),
        ("index", lambda values: values[::-1], "index is not that of the images"),
    ],
)
def test_a_shard_that_is_not_of_its_images_is_named_alone(copied, sources, name, change, why):
    section = section_of(copied)
    with h5py.File(section.shard(4), "r+") as file:
        file[name][:] = change(file[name][:])
    answer = compare(section.folder, sources)
    assert list(answer["damaged"]) == ["shard-00004.h5"]
    assert why in answer["damaged"]["shard-00004.h5"]


def test_which_rows_are_drawn_depends_on_the_seed_alone(copied, sources):
    section = section_of(copied)
    for number in range(5):
        with h5py.File(section.shard(number), "r+") as file:
            file["labels"][:] = 99
    found = [
        bool(compare(section.folder, sources, sample=1, seed=seed)["damaged"]) for seed in (0, 1, 2, 3, 0)
    ]
    assert found[0] == found[-1]
    assert {*found} == {True, False}


def test_a_shard_without_features_is_damaged_and_not_a_crash(copied, sources):
    section = section_of(copied)
    with h5py.File(section.shard(2), "r+") as file:
        del file["features/block1_pool"]
    assert "could not be read" in compare(section.folder, sources)["damaged"]["shard-00002.h5"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("convolutions", "another", "another version of the algorithm"),
        ("layers", None, "does not describe features"),
    ],
)
def test_features_that_cannot_be_recomputed_are_refused_in_words(copied, sources, field, value, said):
    folder = section_of(copied).folder
    content = read_sealed(folder / MANIFEST)
    content["fingerprint"][field] = value
    key = content["key"] = key_of(content["fingerprint"])
    publish_sealed(folder / MANIFEST, content)
    assert said in compare(folder.rename(folder.with_name(f"identity-{key}")), sources)["refused"]


def test_damaged_images_are_no_measure(copied, sources, tmp_path, flip_byte):

    images = shutil.copytree(sources.dataset, tmp_path / "images")
    flip_byte(images / "dataset.h5")
    answer = compare(section_of(copied).folder, SimpleNamespace(dataset=images, weights=sources.weights))
    assert "expected sha256" in answer["refused"]


def test_the_tolerance_allows_for_the_rounding_of_storage():
    assert tolerance(base_of()) == TOLERANCES["float32"]
    assert tolerance(base_of(storage="float16")) == pytest.approx(TOLERANCES["float32"] + 2**-10)
