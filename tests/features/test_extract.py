"""Extraction gives what a plain forward pass gives, and no fault makes it lose or repeat work."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from caches import LAYERS, base_of, extract_to, section_of

from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.features import extract as module
from pipeline.features import passes
from pipeline.features.shards import Shard, ShardWriter, claim
from pipeline.features.store import FeatureStore
from pipeline.storage.layout import LOCKS
from pipeline.storage.publishing import read_manifest

VGG16 = BACKBONES["vgg16"]

EXTRACT = """
import json, os, pathlib, sys, time
from pipeline.features import extract, sections

def meet(others):
    here = pathlib.Path(sys.argv[6]).parent
    (here / f"met-{os.getpid()}").touch()
    while len(list(here.glob("met-*"))) < others:
        time.sleep(0.01)

def progress(stage, done, total, unit):
    meet(int(sys.argv[7]))
    time.sleep(float(sys.argv[5]))
    if done >= int(sys.argv[4]):
        print("standing still", flush=True)
        time.sleep(60)

sections.SHARD_BYTES, sections.PASS_IMAGES = 1, 10
extract.extract(json.loads(sys.argv[1]), ["block1_pool", "block2_pool"], ["identity"], sys.argv[2],
                sys.argv[3], sys.argv[6], progress=progress)
print("finished", flush=True)
"""


def shards(folder: Path) -> dict[str, bytes]:
    """Return the bytes of shards and manifests by their paths in the cache."""
    kept = [*folder.rglob("shard-*.h5"), *folder.rglob("manifest.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(kept)}


def versions(folder: Path) -> dict[str, tuple]:
    """Return what changes when a shard is written again, even with the same bytes."""
    found = {path.name: path.stat() for path in sorted(folder.rglob("shard-*.h5"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


@pytest.fixture
def rerun(extracted):
    """Return a function that extracts to the folder of the copied shards once more."""
    return lambda **changes: extracted("copied", shard_rows=10, **changes)


@pytest.fixture
def in_process(start_script, sources):
    """Return a function that starts an extraction in ten shards in a process of its own."""

    def start(folder: Path, *, stand_still_at: int = 1000, pause: float = 0.0, processes: int = 1):
        """With processes, an extraction waits after its first images until so many have come as far."""
        wanted, places = json.dumps(base_of()), (sources.dataset, sources.weights)
        return start_script(EXTRACT, wanted, *places, stand_still_at, pause, folder, processes)

    return start


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


def test_pooling_none_caches_maps(extracted):
    store = FeatureStore(extracted(layers=["block2_pool"], pooling="none"))
    maps = store.load(["block2_pool"])
    assert (maps.shape, maps.dtype) == ((100, 8, 8, 128), np.float32)


def test_features_do_not_depend_on_the_size_of_a_shard(undisturbed, extracted):
    whole = FeatureStore(extracted(shard_rows=100))
    np.testing.assert_allclose(FeatureStore(undisturbed).load(LAYERS), whole.load(LAYERS), rtol=1e-5)


def test_storage_as_float16_halves_the_features_and_rounds_them(undisturbed, extracted):
    half, full = FeatureStore(extracted(storage="float16", shard_rows=10)), FeatureStore(undisturbed)
    assert half.load(LAYERS).dtype == np.float32
    np.testing.assert_array_equal(half.load(LAYERS), full.load(LAYERS).astype(np.float16))
    with h5py.File(next(half.folder.rglob("*.h5"))) as file:
        assert file["features/block1_pool"].dtype == np.float16


def test_values_that_float16_cannot_hold_are_refused(sources, tmp_path, monkeypatch):
    arrays = {name: [kernel * 100, bias] for name, (kernel, bias) in read_weights(sources.weights).items()}
    monkeypatch.setattr(module, "read_weights", lambda folder: arrays)
    with pytest.raises(DamagedFile, match=r"block1_pool for images 0…99 reach \d+, beyond float16"):
        extract_to(tmp_path / "features", sources, storage="float16")
    assert not list(tmp_path.rglob("*.h5"))


def test_costs_and_manifest_tell_what_was_done(undisturbed):
    section = section_of(undisturbed)
    manifest = read_manifest(section.folder)
    costs = json.loads((section.folder / module.COSTS).read_text())
    assert list(manifest.files) == [f"shard-{number:05d}.h5" for number in range(10)]
    assert manifest.facts == {"rows": 100, "rows_by_shard": [10] * 10}
    assert costs["bytes"] == manifest.bytes
    assert costs["images"] == 100
    assert min(costs[name] for name in ("seconds", "images_per_second", "peak_memory_mb")) > 0
    assert not (section.folder / LOCKS).exists()


def test_a_layer_that_comes_later_is_computed_alone(copied, rerun, monkeypatch):
    before = versions(copied)
    computed = []
    monkeypatch.setattr(passes, "forward_function", _recorded(passes.forward_function, computed))
    rerun(layers=["block1_pool", "block2_pool", "block3_pool"])
    assert computed == [["block3_pool"]]
    assert {name: versions(section_of(copied).folder)[name] for name in before} == before
    assert FeatureStore(copied).layers == ["block1_pool", "block2_pool", "block3_pool"]
    assert FeatureStore(copied).load(["block3_pool", "block1_pool"]).shape == (100, 256 + 64)


def _recorded(forward_function, computed: list):
    def record(*arguments, **options):
        computed.append(options["layers"])
        return forward_function(*arguments, **options)

    return record


def test_a_view_that_comes_later_is_computed_alone_and_is_that_of_the_mirrored_images(copied, rerun, sources):
    import keras

    before = shards(copied)
    rerun(views=["identity", "hflip"])
    after = shards(copied)
    assert {name: after[name] for name in before} == before
    assert {name.partition("-")[0] for name in set(after) - set(before)} == {"hflip"}
    assert FeatureStore(copied).views == ["identity", "hflip"]
    network = build_backbone(VGG16, read_weights(sources.weights), input_size=32)
    mirrored = ImageStore(sources.dataset).images()[:, :, ::-1]
    maps = np.asarray(keras.Model(network.input, network.get_layer("block2_pool").output)(mirrored))
    have = FeatureStore(copied).load(["block2_pool"], "hflip")
    np.testing.assert_allclose(have, maps.mean((1, 2)), rtol=1e-4, atol=1e-4 * have.max())


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_fault_08_extractions_killed_at_random_moments_go_on_where_they_stopped(
    undisturbed, sources, tmp_path, in_process, kills
):
    folder, generator = tmp_path / "killed", np.random.Generator(np.random.PCG64(kills))
    finished: dict[str, tuple] = {}
    for stop in generator.integers(0, 100, kills):
        child = in_process(folder, stand_still_at=int(stop), pause=0.05)
        child.stdout.readline()
        time.sleep(generator.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        now = versions(folder)
        assert {name: now[name] for name in finished} == finished
        finished = now
    assert finished
    extract_to(folder, sources, shard_rows=10)
    after = versions(folder)
    assert {name: after[name] for name in finished} == finished
    assert shards(folder) == shards(undisturbed)


def test_fault_17_two_extractions_at_once_share_the_work_and_do_none_of_it_twice(
    undisturbed, tmp_path, in_process
):
    folder = tmp_path / "shared"
    running = [in_process(folder, pause=0.05, processes=2) for _ in range(2)]
    assert [child.stdout.readline() for child in running] == ["finished\n"] * 2
    assert shards(folder) == shards(undisturbed)
    notes = [json.loads(path.read_text()) for path in sorted(folder.rglob("shard-*.json"))]
    assert len(notes) == 10
    assert len({note["process"] for note in notes}) == 2


def test_a_claimed_shard_is_left_to_its_claimant_and_taken_over_when_that_is_gone(undisturbed, tmp_path):
    section = section_of(tmp_path)
    lock = claim(section, 3)
    assert claim(section, 3) is None
    lock.release()
    assert claim(section, 3) is not None


def test_parts_make_what_one_extraction_makes(undisturbed, extracted):
    folder = extracted("in parts", shard_rows=10, part=1, parts=3)
    assert sorted(versions(folder)) == [f"shard-{number:05d}.h5" for number in (1, 4, 7)]
    extracted("in parts", shard_rows=10, part=0, parts=3)
    assert not list(folder.rglob("manifest.json"))
    extracted("in parts", shard_rows=10, part=2, parts=3)
    assert shards(folder) == shards(undisturbed)


@pytest.mark.parametrize("finished", [True, False], ids=["after the end", "before the manifest"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "empty"])
def test_fault_13_and_14_only_the_damaged_shard_is_computed_again(
    undisturbed, copied, rerun, flip_byte, damage, finished
):
    section = section_of(copied)
    before, path = versions(copied), section.shard(4)
    if not finished or damage == "flipped":  # of a finished section only sizes are looked at, until verify
        (section.folder / "manifest.json").unlink()
    if damage == "flipped":
        flip_byte(path)
    elif damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "truncated" else b"")
    rerun()
    changed = {name for name, version in versions(copied).items() if version != before[name]}
    assert changed == {path.name}
    assert shards(copied) == shards(undisturbed)


def test_a_shard_without_its_note_is_computed_again(undisturbed, copied, rerun):
    section, before = section_of(copied), versions(copied)
    (section.folder / "manifest.json").unlink()
    section.note(2).write_text('{"key": "cut')
    section.note(3).unlink()
    rerun()
    changed = {name for name, version in versions(copied).items() if version != before[name]}
    assert changed == {section.shard(2).name, section.shard(3).name}
    assert shards(copied) == shards(undisturbed)


def test_shards_of_other_spans_never_mix(copied, extracted):
    (section_of(copied).folder / "manifest.json").unlink()
    store = FeatureStore(extracted("copied", shard_rows=25))
    assert sorted(store.index.tolist()) == store.index.tolist()
    assert len(set(store.index.tolist())) == 100
    assert read_manifest(section_of(copied).folder).facts["rows_by_shard"] == [25] * 4


def test_fault_25_features_that_are_not_finite_are_refused_and_not_published(sources, tmp_path, monkeypatch):
    arrays = read_weights(sources.weights)
    arrays["block1_conv1"][0][0, 0, 0, 0] = np.inf
    monkeypatch.setattr(module, "read_weights", lambda folder: arrays)
    with pytest.raises(DamagedFile, match="features of block1_pool for images 0…99 are not finite numbers"):
        extract_to(tmp_path / "features", sources)
    assert not list(tmp_path.rglob("*.h5"))


def test_fault_10_a_failure_to_write_ends_the_extraction(sources, tmp_path):
    section = section_of(tmp_path / "cache", layers=["block1_pool"])
    section.cache.mkdir()
    locks = [claim(section, number) for number in range(5)]
    for lock in locks:
        assert lock
    shutil.rmtree(section.folder)
    section.folder.touch()
    with pytest.raises(FileExistsError), ShardWriter(ImageStore(sources.dataset), 0.0) as writer:
        for number, lock in enumerate(locks):
            writer.put(Shard(section, number, (number, number + 1), lock))


@pytest.mark.parametrize("damaged", ["dataset", "weights"])
def test_damaged_sources_are_refused(sources, tmp_path, flip_byte, damaged):
    places = {name: tmp_path / name for name in ("dataset", "weights")}
    for name, place in places.items():
        shutil.copytree(getattr(sources, name), place)
    flip_byte(next(places[damaged].glob("*.h5")))
    with pytest.raises(DamagedFile, match=r"\.h5: expected sha256"):
        extract_to(tmp_path / "features", SimpleNamespace(**places))
    assert not list((tmp_path / "features").rglob("*.h5"))


def test_a_shard_is_under_checksums_throughout(undisturbed):
    with h5py.File(section_of(undisturbed).shard(0)) as file:
        checked = []
        file.visititems(
            lambda _, item: checked.append(item.fletcher32) if hasattr(item, "fletcher32") else None
        )
    assert checked == [True] * 6
