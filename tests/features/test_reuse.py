"""Features of unchanged pictures are reused bit for bit when a folder changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from caches import extract_to
from PIL import Image

from pipeline.datasets.folders import _scan
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import prepare
from pipeline.features import passes
from pipeline.features.store import FeatureStore


def write(root, numbers):
    for number in numbers:
        folder = root / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


@pytest.fixture
def extract(tmp_path, sources, monkeypatch):
    """Return a function that caches a folder's features; returns the store and the images computed."""
    computed = []
    original = passes.Pass.__call__

    def counting_call(self, images, view):
        computed.append(len(images))
        return original(self, images, view)

    monkeypatch.setattr(passes.Pass, "__call__", counting_call)

    def run(root, name, **changes):
        _scan.cache_clear()
        computed.clear()
        dataset = dataset_fingerprint(f"folder:{root}", subset=0, split_seed=0, image_size=32)
        prepare(dataset, str(root), str(tmp_path / f"set-{name}"))
        folders = SimpleNamespace(dataset=tmp_path / f"set-{name}", weights=sources.weights)
        extract_to(tmp_path / "features" / name, folders, shard_rows=16, dataset=dataset, **changes)
        return FeatureStore(tmp_path / "features" / name), sum(computed)

    return run


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"pooling": "none", "storage": "float16"}, marks=pytest.mark.slow)]
)
def test_only_new_pictures_are_computed_and_reused_rows_are_identical(tmp_path, extract, changes):
    root = tmp_path / "pictures"
    write(root, range(60))
    before, initial = extract(root, "before", **changes)
    write(root, range(60, 70))
    (root / "class0" / "002.png").unlink()
    after, new = extract(root, "after", **changes)
    assert (initial, new) == (60, 10)
    alone, _ = extract(root, "alone/apart", **changes)  # a folder without other caches
    layer = ["block2_pool"]
    values = {store: store.load(layer) for store in (before, after, alone)}
    np.testing.assert_array_equal(values[after], values[alone])
    assert after.names == alone.names and len(after.names) == 69
    row = before.names.index("class1/003.png")
    np.testing.assert_array_equal(values[after][after.names.index("class1/003.png")], values[before][row])


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [{"precision": "bfloat16"}, {"views": ("hflip",)}, {"input_size": 48}, {"layers": ("block3_pool",)}],
)
def test_caches_with_other_settings_are_not_reused(tmp_path, extract, other):
    root = tmp_path / "pictures"
    write(root, range(40))
    extract(root, "before", **other)
    _, computed = extract(root, "after")
    assert computed == 40


def test_damaged_shards_of_other_caches_are_not_reused(tmp_path, extract):
    root = tmp_path / "pictures"
    write(root, range(48))
    store, _ = extract(root, "before")
    shards = sorted((tmp_path / "features" / "before").glob("*/shard-*.h5"))
    assert len(shards) == 3
    data = bytearray(shards[1].read_bytes())
    data[len(data) // 2] ^= 1
    shards[1].write_bytes(data)
    write(root, range(48, 50))
    _, computed = extract(root, "after")
    assert computed == 16 + 2
