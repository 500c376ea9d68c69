"""The Python lines of the README and the guide do what they say."""

from __future__ import annotations

import h5py
import numpy as np
import pandas
import pytest
import tensorflow as tf
from documents import python_blocks

from pipeline.backbones.table import choose_weights
from pipeline.datasets.store import ImageStore
from pipeline.features.extract import extract
from pipeline.features.sections import cache_fingerprint
from pipeline.features.store import FeatureStore
from pipeline.storage.fingerprint import key_of

PLACE = "data/features/vgg16-imagenet-cifar10-sample-…"


@pytest.fixture
def maps(digits, weights, tmp_path):
    """The cached maps of block 4 of a hundred digits."""
    base = cache_fingerprint(
        ImageStore(digits).fingerprint,
        backbone="vgg16",
        weights=choose_weights("random", "vgg16"),
        precision="float32",
        pooling="none",
    )
    places = {"dataset": str(digits), "weights": str(weights), "folder": str(tmp_path / "maps")}
    extract(base, ["block4_pool"], ["identity"], **places)
    return tmp_path / "maps"


@pytest.fixture
def execute(features, maps, digits, tmp_path, monkeypatch):
    """Return a function that runs the Python of a document on cached features of a hundred digits."""
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(tmp_path / "data"))
    caches = {"vgg16-imagenet-cifar10-sample": features, "another…": maps}
    for title, folder in caches.items():
        name = f"{title}-{key_of(FeatureStore(folder).base)}"
        (tmp_path / "data" / "features").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "features" / name).symlink_to(folder)
    shard = next(features.rglob("shard-00000.h5"))
    places = {f"{PLACE}/identity-…/shard-00000.h5": shard}
    places["data/datasets/cifar10-sample-…"] = digits

    def run(name: str) -> dict:
        lines = python_blocks(name)
        for place, folder in places.items():
            lines = lines.replace(place, str(folder))
        found: dict = {"pandas": pandas, "tf": tf, "h5py": h5py}
        exec(compile(lines.replace(PLACE, str(features)), name, "exec"), found)
        return found

    return run


def test_the_lines_of_the_readme_load_joined_layers(execute):
    found = execute("README.md")
    assert found["features"].shape == (100, 768)
    assert found["features"].dtype == np.float32
    assert found["labels"][found["train"]].shape == found["train"].shape


def test_the_lines_of_the_guide_load_features_into_pandas_tf_data_and_h5py(execute):
    found = execute("docs/python.md")
    store, frame = found["store"], found["frame"]
    assert frame.shape == (100, 512 + 1)
    assert frame["label"].tolist() == store.labels.tolist()
    features, labels = next(iter(found["dataset"]))
    assert (features.shape[1], features.dtype, labels.dtype) == (512, tf.float32, tf.int64)
    assert len(found["features"]) == len(found["labels"]) > 0
    assert found["maps"].shape == (100, 2, 2, 512) and len(found["batch"]) == len(found["train"])
    assert found["images"].shape == (100, 32, 32, 3)
