"""Cached features are read whole, checked and in order, or not at all."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from caches import LAYERS, section_of

from pipeline.errors import BadInput, DamagedFile
from pipeline.features.store import FeatureStore
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import publish_manifest, publish_sealed, read_manifest, read_sealed


def test_two_layers_are_joined_in_the_order_given(undisturbed):
    store = FeatureStore(undisturbed)
    first, second = store.load(["block1_pool"]), store.load(["block2_pool"])
    assert (store.load(["block2_pool", "block1_pool"]) == np.concatenate([second, first], axis=1)).all()
    assert (store.load(("block1_pool", "block2_pool")) == np.concatenate([first, second], axis=1)).all()


def test_the_store_tells_what_it_holds(undisturbed):
    store = FeatureStore(undisturbed)
    assert (store.layers, store.views) == (list(LAYERS), ["identity"])
    assert store.base["weights"]["name"] == "random"
    assert store.bytes == sum(path.stat().st_size for path in undisturbed.rglob("*.h5"))
    rows = [store.rows(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(rows).tolist()) == list(range(100))
    assert all((np.diff(part) > 0).all() for part in rows)


def test_mapped_features_stay_on_the_disk_and_are_those_that_were_loaded(copied):
    store = FeatureStore(copied)
    mapped = store.load(LAYERS, mapped=True)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert (mapped.shape, mapped.dtype) == ((100, 192), np.float32)
    assert (mapped == store.load(LAYERS)).all()
    (file,) = (copied / ".mapped").glob("*.npy")
    made = file.stat().st_mtime_ns
    assert (FeatureStore(copied).load(LAYERS, mapped=True) == mapped).all()
    assert file.stat().st_mtime_ns == made


def test_fault_13_mapped_copy_with_a_flipped_bit_is_made_again(copied, flip_byte):
    wanted = np.array(FeatureStore(copied).load(LAYERS, mapped=True))
    (file,) = (copied / ".mapped").glob("*.npy")
    flip_byte(file)
    np.testing.assert_array_equal(FeatureStore(copied).load(LAYERS, mapped=True), wanted)


def test_costs_add_up_over_the_sections_that_are_read(copied, extracted):
    extracted("copied", shard_rows=10, views=["identity", "hflip"])
    store = FeatureStore(copied)
    one, both = store.costs(LAYERS), store.costs(LAYERS, ("identity", "hflip"))
    assert both["bytes"] == pytest.approx(2 * one["bytes"], rel=0.01)
    assert both["seconds"] > one["seconds"]


@pytest.mark.parametrize("layers", [["block3_pool"], ["block1_pool", "block9_pool"], []])
def test_a_layer_that_is_not_cached_is_refused_with_the_cached_ones(undisturbed, layers):
    with pytest.raises(BadInput, match=r"expected some of the cached \['block1_pool', 'block2_pool'\]"):
        FeatureStore(undisturbed).load(layers)


def test_a_view_that_is_not_cached_is_refused_with_the_cached_ones(undisturbed):
    with pytest.raises(BadInput, match=r"view 'hflip': expected one of the cached \['identity'\]"):
        FeatureStore(undisturbed).load(LAYERS, "hflip")


def test_a_layer_that_only_another_view_has_is_refused(copied, extracted):
    extracted("copied", shard_rows=10, views=["hflip"], layers=["block1_pool"])
    with pytest.raises(BadInput, match="'block2_pool' is not cached for view 'hflip'"):
        FeatureStore(copied).load(LAYERS, "hflip")


def test_maps_of_two_layers_are_not_joined(extracted):
    store = FeatureStore(extracted(pooling="none"))
    assert store.load(["block1_pool"]).shape == (100, 16, 16, 64)
    with pytest.raises(BadInput, match="expected one layer: maps .* are not joined"):
        store.load(["block1_pool", "block2_pool"])


def test_an_empty_cache_is_refused(tmp_path):
    with pytest.raises(DamagedFile, match="no finished features"):
        FeatureStore(tmp_path)


def test_fault_15_a_missing_shard_is_refused(copied):
    section_of(copied).shard(3).unlink()
    with pytest.raises(DamagedFile, match=r"shard-00003.h5: expected \d+ bytes, found no file"):
        FeatureStore(copied)


def test_a_damaged_section_beside_a_whole_one_is_named(copied, extracted):
    extracted("copied", shard_rows=10, views=["hflip"])
    section_of(copied).shard(3).unlink()
    with pytest.raises(DamagedFile, match=r"identity-.*shard-00003.h5: expected"):
        FeatureStore(copied).load(LAYERS)


def test_fault_15_a_shard_that_the_manifest_forgot_is_missed(copied):
    folder = section_of(copied).folder
    manifest = read_manifest(folder)
    files = {name: entry for name, entry in manifest.files.items() if name != "shard-00003.h5"}
    publish_manifest(folder, manifest.fingerprint, files, manifest.facts)
    with pytest.raises(DamagedFile, match="expected 100 rows, found 90"):
        FeatureStore(copied)


def test_fault_15_rows_overwritten_by_zeros_are_refused(copied):
    with h5py.File(section_of(copied).shard(3), "r+") as file:
        file["features/block1_pool"][5:] = 0
    with pytest.raises(DamagedFile, match="shard-00003.h5: expected sha256"):
        FeatureStore(copied)


def test_fault_15_a_layer_with_fewer_rows_than_labels_is_refused_even_with_a_manifest(copied):
    section = section_of(copied)
    with h5py.File(section.shard(3), "r+") as file:
        del file["features/block1_pool"]
        file.create_dataset("features/block1_pool", shape=(8, 64), dtype=np.float32)
    manifest = read_manifest(section.folder)
    publish_manifest(section.folder, manifest.fingerprint, list(manifest.files), manifest.facts)
    with pytest.raises(DamagedFile, match="expected 100 rows of features, found 98"):
        FeatureStore(copied).load(["block1_pool"])


@pytest.mark.parametrize("number", [0, 9])
def test_fault_13_a_flipped_bit_is_refused(copied, flip_byte, number):
    path = section_of(copied).shard(number)
    flip_byte(path)
    with pytest.raises(DamagedFile, match=f"{path.name}: expected sha256"):
        FeatureStore(copied)


def test_a_damaged_manifest_does_not_count(copied):
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
def test_a_sound_manifest_of_features_that_are_not_known_is_refused(copied, field, value):
    section = section_of(copied)
    manifest = read_manifest(section.folder)
    other = {**manifest.fingerprint, field: value}
    publish_manifest(section.folder, other, list(manifest.files), manifest.facts)
    section.folder.rename(copied / f"identity-{key_of(other)}")
    with pytest.raises(DamagedFile, match="describes no known features|expected block1_pool of shape"):
        FeatureStore(copied).load(LAYERS[:1])


def test_a_manifest_that_does_not_say_how_many_rows_there_are_is_refused(copied):
    section = section_of(copied)
    manifest = read_manifest(section.folder)
    publish_manifest(section.folder, manifest.fingerprint, list(manifest.files), {})
    with pytest.raises(DamagedFile, match="expected None rows, found 100"):
        FeatureStore(copied)


def test_columns_of_different_lengths_are_refused_even_with_a_manifest(copied):
    section = section_of(copied)
    with h5py.File(section.shard(3), "r+") as file:
        del file["split"]
        file["split"] = np.zeros(9, np.uint8)
    manifest = read_manifest(section.folder)
    publish_manifest(section.folder, manifest.fingerprint, list(manifest.files), manifest.facts)
    with pytest.raises(DamagedFile, match="shard-00003.h5: its columns differ in length"):
        FeatureStore(copied)
