"""Cached features are read whole, checked and in order, or not at all."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from pipeline.errors import BadInput, DamagedFile
from pipeline.features.extract import shard_name
from pipeline.features.store import FeatureStore
from pipeline.publishing import publish_manifest, read_manifest


def test_two_layers_are_joined_in_the_order_given(undisturbed):
    store = FeatureStore(undisturbed)
    first, second = store.load(["block1_pool"]), store.load(["block2_pool"])
    assert (store.load(["block2_pool", "block1_pool"]) == np.concatenate([second, first], axis=1)).all()
    assert (store.load(("block1_pool", "block2_pool")) == np.concatenate([first, second], axis=1)).all()


def test_the_store_tells_what_it_holds(undisturbed):
    store = FeatureStore(undisturbed)
    assert store.layers == ["block1_pool", "block2_pool"]
    assert store.fingerprint["weights"]["name"] == "random"
    assert store.bytes == sum(path.stat().st_size for path in undisturbed.glob("*.h5"))
    rows = [store.rows(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(rows).tolist()) == list(range(100))
    assert all((np.diff(part) > 0).all() for part in rows)


@pytest.mark.parametrize("layers", [["block3_pool"], ["block1_pool", "block9_pool"], []])
def test_a_layer_that_is_not_cached_is_refused_with_the_cached_ones(undisturbed, layers):
    with pytest.raises(BadInput, match=r"expected some of the cached \['block1_pool', 'block2_pool'\]"):
        FeatureStore(undisturbed).load(layers)


def test_maps_of_two_layers_are_not_joined(extracted):
    store = FeatureStore(extracted(pooling="none"))
    assert store.load(["block1_pool"]).shape == (100, 16, 16, 64)
    with pytest.raises(BadInput, match="expected one layer: maps .* are not joined"):
        store.load(["block1_pool", "block2_pool"])


def test_fault_15_a_missing_shard_is_refused(copied):
    (copied / shard_name(3)).unlink()
    with pytest.raises(DamagedFile, match="shard-00003.h5: expected a file, found none"):
        FeatureStore(copied)


def test_fault_15_a_shard_that_the_manifest_forgot_is_missed(copied):
    manifest = read_manifest(copied)
    files = {name: entry for name, entry in manifest.files.items() if name != shard_name(3)}
    publish_manifest(copied, manifest.fingerprint, files, manifest.facts)
    with pytest.raises(DamagedFile, match="expected 100 rows, found 90"):
        FeatureStore(copied)


def test_fault_15_rows_overwritten_by_zeros_are_refused(copied):
    with h5py.File(copied / shard_name(3), "r+") as file:
        file["features/block1_pool"][5:] = 0
    with pytest.raises(DamagedFile, match="shard-00003.h5: expected sha256"):
        FeatureStore(copied)


def test_fault_15_a_layer_with_fewer_rows_than_labels_is_refused_even_with_a_manifest(copied):
    with h5py.File(copied / shard_name(3), "r+") as file:
        del file["features/block1_pool"]
        file.create_dataset("features/block1_pool", shape=(8, 64), dtype=np.float32)
    manifest = read_manifest(copied)
    publish_manifest(copied, manifest.fingerprint, list(manifest.files), manifest.facts)
    with pytest.raises(DamagedFile, match="expected 100 rows of features, found 98"):
        FeatureStore(copied).load(["block1_pool"])


@pytest.mark.parametrize("number", [0, 9])
def test_fault_13_a_flipped_bit_is_refused(copied, flip_byte, number):
    flip_byte(copied / shard_name(number))
    with pytest.raises(DamagedFile, match=f"{shard_name(number)}: expected sha256"):
        FeatureStore(copied)


def test_a_damaged_manifest_is_refused(copied):
    content = json.loads((copied / "manifest.json").read_text())
    content["fingerprint"]["layers"] = ["block1_pool"]
    (copied / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match="its key does not match its fingerprint"):
        FeatureStore(copied)
