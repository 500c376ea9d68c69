"""The Python lines of the README and the guide do what they say."""

from __future__ import annotations

import h5py
import numpy as np
import pandas
import pytest
import tensorflow as tf
from documents import python_blocks
from PIL import Image
from small_networks import save_model

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
    extract({**base, "layers": ["block4_pool"], "views": ["identity"]}, **places)
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


@pytest.mark.slow
def test_the_recipes_with_other_backbones_run_on_a_table_of_pictures(tmp_path, monkeypatch):
    for number in range(12):
        Image.new("RGB", (40, 40), (20 * number, 0, 100)).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{'dark' if number < 6 else 'bright'}" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    (tmp_path / "0.png").rename(tmp_path / "photo.jpg")
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows[1:]]))
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    smaller = '"MobileNetV3Small", weights="random", input_size=32'
    lines = python_blocks("docs/backbones.md").replace('"EfficientNetV2B0"', smaller)
    found: dict = {"model": save_model(tmp_path / "first.keras")}
    exec(compile(lines, "docs/backbones.md", "exec"), found)
    assert len(found["scores"]) == 3 and found["scores"].mean() > 0.5
    assert found["embedding"].transform(["photo.jpg"]).shape == (1, 5)
    assert len(found["classifier"].predict(["photo.jpg"])) == 1


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
