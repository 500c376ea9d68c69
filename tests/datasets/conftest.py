"""A prepared data set, and an archive of CIFAR-10's layout with a few images."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import prepare
from pipeline.download import archive as cifar10
from pipeline.download.cifar10 import ARCHIVE

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
    """An archive of six batches of twenty images; MEMBERS is patched to match it.

    Image i of batch b has the red value b, the green value i and the label i % 10.
    """
    members = {cifar10.META: {b"label_names": [f"class {number}".encode() for number in range(10)]}}
    for number, name in enumerate((*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH)):
        rows = np.zeros((PER_BATCH, 3, 1024), np.uint8)
        rows[:, 0], rows[:, 1] = number, np.arange(PER_BATCH)[:, None]
        names = [f"{number}_{position}.png".encode() for position in range(PER_BATCH)]
        labels = [position % 10 for position in range(PER_BATCH)]
        members[name] = {b"data": rows.reshape(PER_BATCH, -1), b"labels": labels, b"filenames": names}
    packed = {name: pickle.dumps(content, protocol=3) for name, content in members.items()}
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        for name, data in packed.items():
            header = tarfile.TarInfo(f"{cifar10.EXTRACTED}/{name}")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    table = [
        cifar10.Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in packed.items()
    ]
    monkeypatch.setattr(cifar10, "MEMBERS", tuple(table))
    monkeypatch.setattr(cifar10, "IMAGES_PER_BATCH", PER_BATCH)
    return tmp_path / ARCHIVE
