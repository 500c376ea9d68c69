"""A prepared data set, and an archive of CIFAR-10's layout with a few images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_archives import small_row, write_archive

from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import prepare
from pipeline.download.cifar import ARCHIVES

PER_BATCH = 20


@pytest.fixture
def prepared(tmp_path) -> Callable[..., Path]:
    """Return a function that prepares a data set in a folder of its own; digits by default."""

    def make(folder: str = "digits", *, name="digits", source=None, subset=0, split_seed=0) -> Path:
        fingerprint = dataset_fingerprint(name, subset=subset, split_seed=split_seed)
        prepare(fingerprint, source and str(source), str(tmp_path / folder))
        return tmp_path / folder

    return make


@pytest.fixture
def small_archive(tmp_path, monkeypatch) -> Path:
    """An archive of six batches of twenty images; its row is patched to match it.

    Image i of batch b has the red value b, the green value i and the label i % 10.
    """
    *batches, meta = (member.name for member in ARCHIVES["cifar10"].members)
    members = {meta: {b"label_names": [f"class {number}".encode() for number in range(10)]}}
    for number, name in enumerate(batches):
        rows = np.zeros((PER_BATCH, 3, 1024), np.uint8)
        rows[:, 0], rows[:, 1] = number, np.arange(PER_BATCH)[:, None]
        names = [f"{number}_{position}.png".encode() for position in range(PER_BATCH)]
        labels = [position % 10 for position in range(PER_BATCH)]
        members[name] = {b"data": rows.reshape(PER_BATCH, -1), b"labels": labels, b"filenames": names}
    packed = {name: pickle.dumps(content, protocol=3) for name, content in members.items()}
    monkeypatch.setitem(ARCHIVES, "cifar10", small_row("cifar10", packed, PER_BATCH))
    return write_archive(tmp_path / ARCHIVES["cifar10"].file, "cifar10", packed)
