"""The README's lines that read features do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pandas
import tensorflow as tf

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_of_the_readme_load_features_into_numpy_pandas_tf_data_and_h5py(undisturbed):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = "\n".join(block for block in blocks if "store" in block)
    shard = next(undisturbed.rglob("shard-00000.h5"))
    lines = lines.replace("data/features/vgg16-hed-digits-…/identity-…/shard-00000.h5", str(shard))
    lines = lines.replace("data/features/vgg16-hed-digits-…", str(undisturbed))
    lines = lines.replace("block3_pool", "block1_pool").replace("block4_pool", "block2_pool")
    lines = lines.replace("block5_pool", "block2_pool")
    found: dict = {"pandas": pandas, "tf": tf, "h5py": h5py}
    exec(compile(lines, "README.md", "exec"), found)
    store, frame = found["store"], found["frame"]
    assert frame.shape == (100, 128 + 1)
    assert frame["label"].tolist() == store.labels.tolist()
    features, labels = next(iter(found["dataset"]))
    assert (features.shape[1], features.dtype, labels.dtype) == (128, tf.float32, tf.int64)
    assert (found["features"] == store.load(["block2_pool"])[:10]).all()
    assert found["labels"].dtype == np.int64
