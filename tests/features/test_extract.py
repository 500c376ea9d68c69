"""Extraction matches a plain forward pass, and no fault makes it lose or repeat work."""

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

from pipeline import machine
from pipeline.backbones import forward
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile, HeadstartError
from pipeline.features import extract as module
from pipeline.features.shards import Shard, ShardWriter, claim
from pipeline.features.store import FeatureStore
from pipeline.storage import publishing
from pipeline.storage.fingerprint import key_of
from pipeline.storage.layout import LOCKS
from pipeline.storage.publishing import read_manifest

VGG16 = BACKBONES["vgg16"]
TAPS = VGG16.taps

EXTRACT = """
import json, os, pathlib, sys, time
from pipeline.features import extract, sections

def wait_for(others):
    here = pathlib.Path(sys.argv[6]).parent
    (here / f"started-{os.getpid()}").touch()
    while len(list(here.glob("started-*"))) < others:
        time.sleep(0.01)

def progress(stage, done, total, unit):
    wait_for(int(sys.argv[7]))
    time.sleep(float(sys.argv[5]))
    if done >= int(sys.argv[4]):
        print("paused", flush=True)
        time.sleep(60)

sections.SHARD_BYTES, sections.shard_step = 1, lambda base: 10
request = {**json.loads(sys.argv[1]), "layers": ["block1_pool", "block2_pool"], "views": ["identity"]}
extract.extract(request, sys.argv[2], sys.argv[3], sys.argv[6], progress=progress)
print("finished", flush=True)
"""


def shards(folder: Path) -> dict[str, bytes]:
    """Return the bytes of shards and manifests by their paths in the cache."""
    paths = [*folder.rglob("shard-*.h5"), *folder.rglob("manifest.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def versions(folder: Path) -> dict[str, tuple]:
    """Return inode and modification time by shard; they change when a shard is rewritten with equal bytes."""
    stats = {path.name: path.stat() for path in sorted(folder.rglob("shard-*.h5"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.fixture
def rerun(extracted):
    """Return a function that extracts to the copied cache again."""
    return lambda **changes: extracted("copied", shard_rows=10, **changes)


@pytest.fixture
def in_process(start_script, sources):
    """Return a function that starts an extraction to ten shards in another process."""

    def start(folder: Path, *, pause_at: int = 1000, pause: float = 0.0, processes: int = 1):
        """An extraction waits after its first images until `processes` extractions have started."""
        base, folders = json.dumps(base_of()), (sources.dataset, sources.weights)
        return start_script(EXTRACT, base, *folders, pause_at, pause, folder, processes)

    return start


def test_features_match_a_plain_forward_pass(cached, sources):
    import keras

    network = build_backbone(VGG16, read_weights(sources.weights), input_size=32)
    store = FeatureStore(cached)
    for layer, channels in (("block1_pool", 64), ("block2_pool", 128)):
        maps = keras.Model(network.input, network.get_layer(layer).output)(ImageStore(sources.dataset).images)
        expected, actual = np.asarray(maps).mean((1, 2)), store.load([layer])
        assert (actual.shape, actual.dtype) == ((100, channels), np.float32)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_columns_match_the_data_set(cached, sources):
    store, images = FeatureStore(cached), ImageStore(sources.dataset)
    assert store.names == images.names
    for column in ("index", "labels", "split"):
        actual, expected = getattr(store, column), getattr(images, column)
        assert actual.dtype == expected.dtype
        assert (actual == expected).all()


def test_pooling_none_caches_maps(extracted):
    store = FeatureStore(extracted(layers=["block2_pool"], pooling="none"))
    maps = store.load(["block2_pool"])
    assert (maps.shape, maps.dtype) == ((100, 8, 8, 128), np.float32)


def test_features_do_not_depend_on_the_shard_size(cached, extracted):
    single = FeatureStore(extracted(shard_rows=100))
    np.testing.assert_allclose(FeatureStore(cached).load(LAYERS), single.load(LAYERS), rtol=1e-5)


def test_storage_as_float16_halves_the_features_and_rounds_them(cached, extracted):
    half, full = FeatureStore(extracted(storage="float16", shard_rows=10)), FeatureStore(cached)
    assert half.load(LAYERS).dtype == np.float32
    np.testing.assert_array_equal(half.load(LAYERS), full.load(LAYERS).astype(np.float16))
    with h5py.File(next(half.folder.rglob("*.h5"))) as file:
        assert file["features/block1_pool"].dtype == np.float16


@pytest.mark.parametrize("pooling", ["average", "none"])
@pytest.mark.parametrize(
    ("factor", "message"),
    [(100, "block1_pool for images 0…99 overflow float16"), (np.nan, "images 0…99 are not finite numbers")],
)
def test_values_that_float16_cannot_store_are_an_error(
    sources, tmp_path, monkeypatch, pooling, factor, message
):
    arrays = {name: [kernel * factor, bias] for name, (kernel, bias) in read_weights(sources.weights).items()}
    monkeypatch.setattr(module, "read_weights", lambda folder: arrays)
    with pytest.raises(DamagedFile, match=message):
        extract_to(tmp_path / "features", sources, storage="float16", pooling=pooling)
    assert not list(tmp_path.rglob("*.h5"))


def test_costs_and_manifest_describe_the_extraction(cached):
    section = section_of(cached)
    manifest = read_manifest(section.folder)
    costs = json.loads((section.folder / module.COSTS).read_text())
    assert list(manifest.files) == [f"shard-{number:05d}.h5" for number in range(10)]
    assert manifest.facts == {"rows": 100, "rows_by_shard": [10] * 10, "versions": [machine.versions()]}
    assert costs["bytes"] == manifest.bytes
    assert costs["images"] == 100
    assert min(costs[name] for name in ("seconds", "images_per_second", "peak_memory_mb")) > 0
    assert not (section.folder / LOCKS).exists()


@pytest.mark.parametrize("fault", ["missing", "flipped"])
def test_costs_that_are_lost_or_damaged_are_written_again_from_the_shards_notes(
    copied, rerun, flip_byte, fault
):
    section, before = section_of(copied), versions(copied)
    costs = section.folder / module.COSTS
    expected = publishing.read_sealed(costs)
    flip_byte(costs) if fault == "flipped" else costs.unlink()
    assert str(costs) in section.why_missing()
    with pytest.raises(DamagedFile, match=str(costs)):
        FeatureStore(copied)
    rerun()
    assert publishing.read_sealed(costs) == expected
    assert section.why_missing() is None
    assert versions(copied) == before


@pytest.mark.slow
def test_layer_requested_later_is_computed_alone(copied, rerun, monkeypatch):
    before = versions(copied)
    computed = []
    monkeypatch.setattr(forward, "forward_function", _recorded(forward.forward_function, computed))
    rerun(layers=["block1_pool", "block2_pool", "block3_pool"])
    assert computed == [["block3_pool"]]
    assert {name: versions(section_of(copied).folder)[name] for name in before} == before
    assert FeatureStore(copied).layers == ["block1_pool", "block2_pool", "block3_pool"]
    assert FeatureStore(copied).load(["block3_pool", "block1_pool"]).shape == (100, 256 + 64)


def _recorded(forward_function, computed: list):
    def record(row, arrays, spec):
        computed.append([layer for layer, _ in spec.taps])
        return forward_function(row, arrays, spec)

    return record


def test_view_requested_later_is_computed_alone_from_flipped_images(copied, rerun, sources):
    import keras

    before = shards(copied)
    rerun(views=["identity", "hflip"])
    after = shards(copied)
    assert {name: after[name] for name in before} == before
    assert {name.partition("-")[0] for name in set(after) - set(before)} == {"hflip"}
    assert FeatureStore(copied).views == ["identity", "hflip"]
    network = build_backbone(VGG16, read_weights(sources.weights), input_size=32)
    flipped = ImageStore(sources.dataset).images[:, :, ::-1]
    maps = np.asarray(keras.Model(network.input, network.get_layer("block2_pool").output)(flipped))
    features = FeatureStore(copied).load(["block2_pool"], "hflip")
    np.testing.assert_allclose(features, maps.mean((1, 2)), rtol=1e-4, atol=1e-4 * features.max())


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_fault_08_extraction_killed_at_random_moments_resumes_where_it_stopped(
    cached, sources, tmp_path, in_process, kills
):
    folder, generator = tmp_path / "killed", np.random.Generator(np.random.PCG64(kills))
    finished: dict[str, tuple] = {}
    for stop in generator.integers(0, 100, kills):
        child = in_process(folder, pause_at=int(stop), pause=0.05)
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
    assert shards(folder) == shards(cached)


def test_fault_17_concurrent_extractions_share_the_work_and_repeat_none(cached, tmp_path, in_process):
    folder = tmp_path / "shared"
    running = [in_process(folder, pause=0.05, processes=2) for _ in range(2)]
    assert [child.stdout.readline() for child in running] == ["finished\n"] * 2
    assert shards(folder) == shards(cached)
    notes = [json.loads(path.read_text()) for path in sorted(folder.rglob("shard-*.json"))]
    assert len(notes) == 10
    assert len({note["process"] for note in notes}) == 2


def test_claimed_shard_can_be_claimed_again_after_its_release(tmp_path):
    section = section_of(tmp_path)
    lock = claim(section, 3)
    assert claim(section, 3) is None
    lock.release()
    assert claim(section, 3) is not None


def test_parts_give_the_same_cache_as_one_extraction(cached, extracted):
    folder = extracted("in parts", shard_rows=10, part=1, parts=3)
    assert sorted(versions(folder)) == [f"shard-{number:05d}.h5" for number in (1, 4, 7)]
    extracted("in parts", shard_rows=10, part=0, parts=3)
    assert not list(folder.rglob("manifest.json"))
    extracted("in parts", shard_rows=10, part=2, parts=3)
    assert shards(folder) == shards(cached)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "without manifest"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "empty"])
def test_fault_13_and_14_only_the_damaged_shard_is_recomputed(
    cached, copied, rerun, flip_byte, damage, finished
):
    section = section_of(copied)
    before, path = versions(copied), section.shard(4)
    if not finished or damage == "flipped":  # only sizes are checked in a finished section
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
    assert shards(copied) == shards(cached)


def test_shard_without_a_valid_note_is_recomputed(cached, copied, rerun):
    section, before = section_of(copied), versions(copied)
    (section.folder / "manifest.json").unlink()
    section.note(2).write_text('{"key": "cut')
    section.note(3).unlink()
    rerun()
    changed = {name for name, version in versions(copied).items() if version != before[name]}
    assert changed == {section.shard(2).name, section.shard(3).name}
    assert shards(copied) == shards(cached)


def test_shards_of_other_spans_never_mix(copied, extracted):
    (section_of(copied).folder / "manifest.json").unlink()
    store = FeatureStore(extracted("copied", shard_rows=25))
    assert sorted(store.index.tolist()) == store.index.tolist()
    assert len(set(store.index.tolist())) == 100
    assert read_manifest(section_of(copied).folder).facts["rows_by_shard"] == [25] * 4


def test_a_file_system_without_locks_is_refused(sources, tmp_path, no_locks):
    message = (
        r"shard-00000\.lock: the file system does not lock files \(No locks available\), .*NFS version 4"
    )
    with pytest.raises(HeadstartError, match=message):
        extract_to(tmp_path / "features", sources)
    assert not list(tmp_path.rglob("*.h5"))


def test_fault_25_features_that_are_not_finite_are_not_published(sources, tmp_path, monkeypatch):
    arrays = read_weights(sources.weights)
    arrays["block1_conv1"][0][0, 0, 0, 0] = np.inf
    monkeypatch.setattr(module, "read_weights", lambda folder: arrays)
    with pytest.raises(DamagedFile, match="features of block1_pool for images 0…99 are not finite numbers"):
        extract_to(tmp_path / "features", sources)
    assert not list(tmp_path.rglob("*.h5"))


def test_fault_10_failure_to_write_ends_the_extraction(sources, tmp_path):
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
def test_damaged_sources_are_an_error(sources, tmp_path, flip_byte, damaged):
    folders = {name: tmp_path / name for name in ("dataset", "weights")}
    for name, folder in folders.items():
        shutil.copytree(getattr(sources, name), folder)
    flip_byte(next(folders[damaged].glob("*.h5")))
    with pytest.raises(DamagedFile, match=r"\.h5: expected sha256"):
        extract_to(tmp_path / "features", SimpleNamespace(**folders))
    assert not list((tmp_path / "features").rglob("*.h5"))


def test_every_dataset_of_a_shard_has_checksums(cached):
    with h5py.File(section_of(cached).shard(0)) as file:
        checked = []
        file.visititems(
            lambda _, item: checked.append(item.fletcher32) if hasattr(item, "fletcher32") else None
        )
    assert checked == [True] * 6


@pytest.mark.slow
def test_the_passes_for_maps_also_fill_the_cache_of_averages(sources, tmp_path, extracted):
    request = {**base_of(), "layers": list(TAPS), "views": ["identity"]}
    averages = {"request": request, "folder": str(tmp_path / "averages")}
    maps, layer = {"pooling": "none", "storage": "float16", "layers": ["block4_pool"]}, ["block4_pool"]
    folder = extracted("maps", shard_rows=40, averages=averages, **maps)
    alone, store = FeatureStore(extracted("alone", layers=TAPS)), FeatureStore(tmp_path / "averages")
    assert store.layers == list(TAPS)
    np.testing.assert_allclose(store.load(TAPS), alone.load(TAPS), rtol=1e-5, atol=1e-5)
    cached = FeatureStore(folder)
    np.testing.assert_array_equal(cached.load(layer), FeatureStore(extracted("plain", **maps)).load(layer))
    used = {section.key for section in cached.sections_of(layer)}
    assert store.costs(TAPS)["seconds"] > 0
    assert store.costs(TAPS, counted=used)["seconds"] == 0  # counted with the maps


@pytest.mark.slow
def test_by_products_are_not_computed_where_the_deepest_layer_is_cached(sources, tmp_path, extracted):
    request = {**base_of(), "layers": list(TAPS), "views": ["identity"]}
    averages = {"request": request, "folder": str(tmp_path / "averages")}
    extract_to(tmp_path / "averages", sources, layers=["block5_pool"])
    extracted("maps", pooling="none", layers=["block4_pool"], averages=averages)
    assert FeatureStore(tmp_path / "averages").layers == ["block5_pool"]


def test_an_extraction_that_does_not_fit_on_the_disk_is_refused_before_it_starts(extracted, monkeypatch):
    usage = SimpleNamespace(free=5e6)
    monkeypatch.setattr(publishing.shutil, "disk_usage", lambda _: usage)
    message = r"the features will take about 6\.6 MB, but only 5\.0 MB are free; make room"
    with pytest.raises(HeadstartError, match=message):
        extracted("maps", pooling="none", layers=["block1_pool"])


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_another_engine_fills_a_cache_of_its_own(extracted, cached, engine):
    pytest.importorskip(engine)
    folder = extracted(engine, engine=engine, shard_rows=30)
    features = FeatureStore(folder)
    assert features.base["engine"] == engine
    assert features.base["convolutions"] != FeatureStore(cached).base["convolutions"]
    np.testing.assert_allclose(features.load(LAYERS), FeatureStore(cached).load(LAYERS), rtol=1e-4, atol=1e-4)
    assert key_of(base_of(engine=engine)) != key_of(base_of())
    assert base_of(engine="tensorflow") == base_of()
