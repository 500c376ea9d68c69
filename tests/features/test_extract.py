"""Extraction gives what a plain forward pass gives, and no fault makes it lose or repeat work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES, choose_weights
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import dataset_fingerprint
from pipeline.errors import BadInput, DamagedFile
from pipeline.features import extract as module
from pipeline.features.extract import ShardWriter, feature_function, note_path, shard_name, shard_spans
from pipeline.features.fingerprint import parse_layers
from pipeline.features.store import FeatureStore
from pipeline.fingerprint import first_difference, key_of
from pipeline.publishing import read_manifest, why_incomplete

VGG16 = BACKBONES["vgg16"]

EXTRACT_AND_STAND_STILL = """
import json, sys, time
from pipeline.features import extract

def progress(stage, done, total, unit):
    if done > 50:
        print("standing still", flush=True)
        time.sleep(60)

extract.SHARD_BYTES = 1
extract.extract(json.loads(sys.argv[1]), *sys.argv[2:5], batch_size=10, progress=progress)
"""


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.h5"))}


def versions(folder: Path) -> dict[str, tuple]:
    """Return what changes when a shard is written again, even with the same bytes."""
    found = {path.name: path.stat() for path in sorted(folder.glob("shard-*.h5"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


@pytest.fixture
def rerun(extracted):
    """Return a function that extracts to the folder of the copied shards once more."""
    return lambda **changes: extracted("copied", shard_rows=10, **changes)


def test_features_are_those_of_a_plain_forward_pass(undisturbed, sources):
    import keras

    network = build_backbone(VGG16, read_weights(sources.weights), input_size=32)
    store = FeatureStore(undisturbed)
    for layer, channels in (("block1_pool", 64), ("block2_pool", 128)):
        maps = keras.Model(network.input, network.get_layer(layer).output)(
            ImageStore(sources.dataset).images()
        )
        want, have = np.asarray(maps).mean((1, 2)), store.load([layer])
        assert (have.shape, have.dtype) == ((100, channels), np.float32)
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4 * want.max())


def test_rows_keep_their_identity(undisturbed, sources):
    store, images = FeatureStore(undisturbed), ImageStore(sources.dataset)
    assert store.names == images.names
    for column in ("index", "labels", "split"):
        have, want = getattr(store, column), getattr(images, column)
        assert have.dtype == want.dtype
        assert (have == want).all()


def test_only_the_network_up_to_the_deepest_layer_is_computed(sources, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("block 3 was computed")

    network = build_backbone(VGG16, read_weights(sources.weights), input_size=32)
    monkeypatch.setattr(network.get_layer("block3_conv1"), "call", refuse)
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    (features,) = feature_function(network, ["block2_pool"], "average")(pictures)
    assert (features.shape, features.dtype) == ((2, 128), np.float32)
    with pytest.raises(AssertionError, match="block 3 was computed"):
        feature_function(network, ["block2_pool", "block3_pool"], "average")(pictures)


def test_pooling_none_caches_maps(extracted):
    store = FeatureStore(extracted(layers="block2_pool", pooling="none"))
    maps = store.load(["block2_pool"])
    assert (maps.shape, maps.dtype) == ((100, 8, 8, 128), np.float32)


def test_costs_and_manifest_tell_what_was_done(undisturbed):
    manifest, costs = read_manifest(undisturbed), FeatureStore(undisturbed).costs()
    assert list(manifest.files) == [shard_name(number) for number in range(10)]
    assert manifest.facts == {"rows": 100, "rows_by_shard": [10] * 10}
    assert set(costs) == {"seconds", "images_per_second", "peak_memory_mb", "bytes"}
    assert costs["bytes"] == manifest.bytes
    assert min(costs.values()) > 0


@pytest.mark.parametrize(
    ("count", "row_bytes", "batch_size", "expected"),
    [
        (25, module.SHARD_BYTES, 10, [(0, 10), (10, 20), (20, 25)]),
        (25, module.SHARD_BYTES // 20, 10, [(0, 20), (20, 25)]),
        (20, 1, 10, [(0, 20)]),
        (1, 1, 256, [(0, 1)]),
    ],
)
def test_shards_hold_whole_batches_and_every_image_once(count, row_bytes, batch_size, expected):
    assert shard_spans(count, row_bytes=row_bytes, batch_size=batch_size) == expected


def test_fault_08_a_killed_extraction_goes_on_where_it_stopped(
    undisturbed, sources, tmp_path, rerun, fingerprint, start_script, wait_for
):
    folder = tmp_path / "copied"
    wanted = json.dumps(fingerprint())
    child = start_script(EXTRACT_AND_STAND_STILL, wanted, sources.dataset, sources.weights, folder)
    assert child.stdout.readline() == "standing still\n"
    wait_for(lambda: note_path(folder, 3).is_file())
    child.kill()
    child.wait()
    assert "expected a manifest, found none" in why_incomplete(folder, fingerprint())
    finished = versions(folder)
    assert 4 <= len(finished) <= 5
    rerun()
    after = versions(folder)
    assert {name: after[name] for name in finished} == finished
    assert shards(folder) == shards(undisturbed)
    assert why_incomplete(folder, fingerprint()) is None


@pytest.mark.parametrize("finished", [True, False], ids=["after the end", "before the manifest"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "empty"])
def test_fault_13_and_14_only_the_damaged_shard_is_computed_again(
    undisturbed, copied, rerun, flip_byte, damage, finished
):
    before, path = versions(copied), copied / shard_name(4)
    if not finished:
        (copied / "manifest.json").unlink()
    if damage == "flipped":
        flip_byte(path)
    elif damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "truncated" else b"")
    rerun()
    changed = {name for name, version in versions(copied).items() if version != before[name]}
    assert changed == {shard_name(4)}
    assert shards(copied) == shards(undisturbed)


def test_a_shard_without_its_note_is_computed_again(undisturbed, copied, rerun):
    before = versions(copied)
    note_path(copied, 2).write_text('{"key": "cut')
    note_path(copied, 3).unlink()
    rerun()
    changed = {name for name, version in versions(copied).items() if version != before[name]}
    assert changed == {shard_name(2), shard_name(3)}
    assert shards(copied) == shards(undisturbed)


def test_another_batch_size_never_mixes_shards_of_different_spans(copied, extracted):
    (copied / "manifest.json").unlink()
    store = FeatureStore(extracted("copied", shard_rows=25))
    assert store.index.tolist() == sorted(store.index.tolist())
    assert len(set(store.index.tolist())) == 100
    assert read_manifest(copied).facts["rows_by_shard"] == [25] * 4


def test_fault_16_notes_of_other_features_do_not_count(copied, rerun):
    before = versions(copied)
    rerun(layers="block1_pool")
    assert not set(versions(copied).values()) & set(before.values())
    assert FeatureStore(copied).layers == ["block1_pool"]


def test_fault_25_features_that_are_not_finite_are_refused_and_not_published(
    sources, tmp_path, fingerprint, monkeypatch
):
    arrays = read_weights(sources.weights)
    arrays["block1_conv1"][0][0, 0, 0, 0] = np.inf
    monkeypatch.setattr(module, "read_weights", lambda folder: arrays)
    with pytest.raises(DamagedFile, match="features of block1_pool for images 0…99 are not finite numbers"):
        module.extract(fingerprint(), str(sources.dataset), str(sources.weights), str(tmp_path / "features"))
    assert not (tmp_path / "features").exists()


def test_fault_10_a_failure_to_write_ends_the_extraction(tmp_path):
    (tmp_path / "file").touch()
    columns = {"index": np.arange(1), "labels": np.arange(1), "split": np.arange(1), "names": ["a"]}
    columns["features"] = {"block1_pool": np.zeros((1, 64), np.float32)}
    with pytest.raises(FileExistsError), ShardWriter(tmp_path / "file", "key") as writer:
        for number in range(5):
            writer.put(number, (number, number + 1), columns, 1.0)


@pytest.mark.parametrize("damaged", ["dataset", "weights"])
def test_damaged_sources_are_refused(sources, tmp_path, fingerprint, flip_byte, damaged):
    places = {name: tmp_path / name for name in ("dataset", "weights")}
    for name, place in places.items():
        shutil.copytree(getattr(sources, name), place)
    flip_byte(next(places[damaged].glob("*.h5")))
    with pytest.raises(DamagedFile, match=r"\.h5: expected sha256"):
        module.extract(fingerprint(), *map(str, places.values()), str(tmp_path / "features"))
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", tuple(f"block{block}_pool" for block in range(1, 6))),
        ("block5_pool, block3_pool", ("block3_pool", "block5_pool")),
        ("block3_pool,block3_pool,", ("block3_pool",)),
    ],
)
def test_layers_come_in_network_order_and_once(text, expected):
    assert parse_layers(text, "vgg16") == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [("block6_pool", "'block6_pool'"), ("block1_pool,ALL", "'ALL'"), (" , ", "'none'"), ("", "'none'")],
)
def test_layers_that_do_not_exist_are_refused_with_the_known_ones(text, named):
    with pytest.raises(BadInput, match=f"expected names among block1_pool, .* or all; received {named}"):
        parse_layers(text, "vgg16")


def test_an_unknown_pooling_is_refused_with_the_known_ones(fingerprint):
    with pytest.raises(BadInput, match="pooling 'max': expected one of average, none"):
        fingerprint(pooling="max")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"weights": choose_weights("random:1", "vgg16")},
            "weights.identity: 'he_normal:0', wanted 'he_normal:1'",
        ),
        ({"weights": choose_weights("hed", "vgg16")}, "weights.identity: "),
        ({"precision": "bfloat16"}, "precision: 'float32', wanted 'bfloat16'"),
        ({"layers": "block1_pool"}, r"layers: "),
        ({"pooling": "none"}, "pooling: 'average', wanted 'none'"),
        ({"dataset": dataset_fingerprint("digits", subset=0, split_seed=0)}, "dataset.subset: 100, wanted 0"),
        (
            {"dataset": dataset_fingerprint("digits", subset=100, split_seed=1)},
            "dataset.split.seed: 0, wanted 1",
        ),
        ({"dataset": dataset_fingerprint("cifar10", subset=100, split_seed=0)}, "dataset.name: "),
    ],
)
def test_fault_16_whatever_changes_the_features_changes_their_key_and_is_told(fingerprint, changes, named):
    assert key_of(fingerprint()) != key_of(fingerprint(**changes))
    assert first_difference(fingerprint(), fingerprint(**changes)).startswith(named)


def test_a_shard_is_under_checksums_throughout(undisturbed):
    with h5py.File(undisturbed / shard_name(0)) as file:
        checked = []
        file.visititems(
            lambda _, item: checked.append(item.fletcher32) if hasattr(item, "fletcher32") else None
        )
    assert checked == [True] * 6
