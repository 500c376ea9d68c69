"""The Python lines of the README and the guide do what they say."""

from __future__ import annotations

import h5py
import numpy as np
import pandas
import pytest
import tensorflow as tf
from documents import python_blocks

PLACE = "data/features/vgg16-imagenet-cifar10-sample-…"


@pytest.fixture
def execute(features):
    """Return a function that runs the Python of a document on cached features of a hundred digits."""
    shard = next(features.rglob("shard-00000.h5"))

    def run(name: str) -> dict:
        lines = python_blocks(name).replace(f"{PLACE}/identity-…/shard-00000.h5", str(shard))
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
