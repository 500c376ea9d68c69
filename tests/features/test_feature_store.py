"""Cached features are verified and read in order; missing or damaged ones are an error."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from caches import LAYERS, section_of

from pipeline.errors import BadInput, DamagedFile
from pipeline.features.store import FeatureStore
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import publish_manifest, publish_sealed, read_manifest, read_sealed


def test_layers_are_concatenated_in_the_requested_order(cached):
    store = FeatureStore(cached)
    first, second = store.load(["block1_pool"]), store.load(["block2_pool"])
    assert (store.load(["block2_pool", "block1_pool"]) == np.concatenate([second, first], axis=1)).all()
    assert (store.load(("block1_pool", "block2_pool")) == np.concatenate([first, second], axis=1)).all()


def test_store_lists_its_contents(cached):
    store = FeatureStore(cached)
    assert (store.layers, store.views) == (list(LAYERS), ["identity"])
    assert store.base["weights"] == "he_normal:0"
    rows = [store.rows(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(rows).tolist()) == list(range(100))
    assert all((np.diff(part) > 0).all() for part in rows)


def test_maps_are_read_from_the_shards_when_they_are_indexed(extracted):
    store = FeatureStore(
        extracted(pooling="none", storage="float16", shard_rows=10, views=["identity", "hflip"])
    )
    maps = store.map_layer("block2_pool", ("hflip", "identity"))
    assert (maps.shape, maps.dtype, len(maps)) == ((200, 8, 8, 128), np.float16, 200)
    loaded = np.concatenate([store.load(["block2_pool"], view) for view in ("hflip", "identity")])
    rows = np.random.default_rng(0).integers(0, 200, 300)
    np.testing.assert_array_equal(maps[rows], loaded[rows])
    np.testing.assert_array_equal(maps[np.array([199, 0])], loaded[[199, 0]])
    assert maps[np.array([], np.int64)].shape == (0, 8, 8, 128)


def test_averages_are_not_mapped(cached):
    with pytest.raises(BadInput, match="expected a cache of feature maps, received pooling average"):
        FeatureStore(cached).map_layer("block2_pool")


def test_fault_13_a_flipped_bit_in_maps_is_refused(extracted, flip_byte):
    folder = extracted(pooling="none", shard_rows=50)
    flip_byte(sorted(folder.rglob("*.h5"))[1])
    with pytest.raises(DamagedFile, match="shard-00001.h5: expected sha256"):
        FeatureStore(folder)


def test_costs_are_summed_over_sections(copied, extracted):
    extracted("copied", shard_rows=10, views=["identity", "hflip"])
    store = FeatureStore(copied)
    one, both = store.costs(LAYERS), store.costs(LAYERS, ("identity", "hflip"))
    assert both["bytes"] == pytest.approx(2 * one["bytes"], rel=0.01)
    assert both["seconds"] > one["seconds"]


@pytest.mark.parametrize("layers", [["block3_pool"], ["block1_pool", "block9_pool"], []])
def test_layer_that_is_not_cached_is_an_error_that_lists_the_cached_ones(cached, layers):
    with pytest.raises(BadInput, match=r"expected some of the cached \['block1_pool', 'block2_pool'\]"):
        FeatureStore(cached).load(layers)


def test_view_that_is_not_cached_is_an_error_that_lists_the_cached_ones(cached):
    with pytest.raises(BadInput, match=r"view 'hflip': expected one of the cached \['identity'\]"):
        FeatureStore(cached).load(LAYERS, "hflip")


def test_layer_cached_only_for_another_view_is_an_error(copied, extracted):
    extracted("copied", shard_rows=10, views=["hflip"], layers=["block1_pool"])
    with pytest.raises(BadInput, match="'block2_pool' is not cached for view 'hflip'"):
        FeatureStore(copied).load(LAYERS, "hflip")


def test_feature_maps_of_two_layers_cannot_be_concatenated(extracted):
    store = FeatureStore(extracted(pooling="none"))
    assert store.load(["block1_pool"]).shape == (100, 16, 16, 64)
    with pytest.raises(BadInput, match="expected one; feature maps cannot be concatenated"):
        store.load(["block1_pool", "block2_pool"])


def test_empty_cache_is_an_error(tmp_path):
    with pytest.raises(DamagedFile, match="no finished features"):
        FeatureStore(tmp_path)


def test_fault_15_missing_shard_is_an_error(copied):
    section_of(copied).shard(3).unlink()
    with pytest.raises(DamagedFile, match=r"shard-00003.h5: expected \d+ bytes, found no file"):
        FeatureStore(copied)


def test_damaged_section_next_to_a_finished_one_is_named(copied, extracted):
    extracted("copied", shard_rows=10, views=["hflip"])
    section_of(copied).shard(3).unlink()
    with pytest.raises(DamagedFile, match=r"identity-.*shard-00003.h5: expected"):
        FeatureStore(copied).load(LAYERS)


def test_fault_15_shard_missing_from_the_manifest_is_detected(copied):
    folder = section_of(copied).folder
    manifest = read_manifest(folder)
    files = {name: entry for name, entry in manifest.files.items() if name != "shard-00003.h5"}
    publish_manifest(folder, manifest.fingerprint, files, manifest.facts)
    with pytest.raises(DamagedFile, match="expected 100 rows, found 90"):
        FeatureStore(copied)


def test_fault_15_rows_overwritten_with_zeros_are_detected(copied):
    with h5py.File(section_of(copied).shard(3), "r+") as file:
        file["features/block1_pool"][5:] = 0
    with pytest.raises(DamagedFile, match="shard-00003.h5: expected sha256"):
        FeatureStore(copied)


def test_fault_15_layer_with_fewer_rows_than_labels_is_an_error_even_with_a_manifest(copied):
    section = section_of(copied)
    with h5py.File(section.shard(3), "r+") as file:
        del file["features/block1_pool"]
        file.create_dataset("features/block1_pool", shape=(8, 64), dtype=np.float32)
    manifest = read_manifest(section.folder)
    publish_manifest(section.folder, manifest.fingerprint, list(manifest.files), manifest.facts)
    with pytest.raises(DamagedFile, match="expected 100 rows, found 98"):
        FeatureStore(copied).load(["block1_pool"])


@pytest.mark.parametrize("number", [0, 9])
def test_fault_13_flipped_bit_is_an_error(copied, flip_byte, number):
    path = section_of(copied).shard(number)
    flip_byte(path)
    with pytest.raises(DamagedFile, match=f"{path.name}: expected sha256"):
        FeatureStore(copied)


def test_section_with_a_damaged_manifest_is_ignored(copied):
    path = section_of(copied).folder / "manifest.json"
    content = read_sealed(path)
    content["fingerprint"]["layers"] = ["block1_pool"]
    publish_sealed(path, content)
    with pytest.raises(DamagedFile, match="no finished features"):
        FeatureStore(copied)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "vgg17"),
        ("storage", "float8"),
        ("input_size", "32"),
        ("pooling", "none"),
        ("layers", ["x"]),
    ],
)
def test_manifest_with_invalid_settings_is_an_error(copied, field, value):
    section = section_of(copied)
    manifest = read_manifest(section.folder)
    other = {**manifest.fingerprint, field: value}
    publish_manifest(section.folder, other, list(manifest.files), manifest.facts)
    section.folder.rename(copied / f"identity-{key_of(other)}")
    with pytest.raises(DamagedFile, match="invalid settings in its manifest|expected block1_pool of shape"):
        FeatureStore(copied).load(LAYERS[:1])


def test_manifest_without_a_row_count_is_an_error(copied):
    section = section_of(copied)
    manifest = read_manifest(section.folder)
    publish_manifest(section.folder, manifest.fingerprint, list(manifest.files), {})
    with pytest.raises(DamagedFile, match="expected None rows, found 100"):
        FeatureStore(copied)


def test_columns_of_different_lengths_are_an_error_even_with_a_manifest(copied):
    section = section_of(copied)
    with h5py.File(section.shard(3), "r+") as file:
        del file["split"]
        file["split"] = np.zeros(9, np.uint8)
    manifest = read_manifest(section.folder)
    publish_manifest(section.folder, manifest.fingerprint, list(manifest.files), manifest.facts)
    with pytest.raises(DamagedFile, match="shard-00003.h5: its columns differ in length"):
        FeatureStore(copied)
