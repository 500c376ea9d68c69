"""The sample of CIFAR-10 in the package has the right images, in the right splits, without a download."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets import sample
from pipeline.datasets.images import ImageWriter
from pipeline.datasets.sample import FOLDER, TABLE, read_cifar10_sample
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.download.archive import read_archive
from pipeline.download.cifar import ARCHIVES
from pipeline.errors import DamagedFile
from pipeline.progress import silent


def read(path: Path):
    """Return the records of the sample and its images."""
    with ImageWriter(path, 32) as writer:
        records = read_cifar10_sample(None, writer, silent)
    return records, np.load(path)


@pytest.fixture(scope="module")
def sample_read(tmp_path_factory):
    return read(tmp_path_factory.mktemp("sample") / "images.npy")


@pytest.fixture
def images(sample_read):
    return sample_read[0]


def test_the_sample_is_stratified_in_every_split(images, sample_read):
    assert sample_read[1].shape == (2000, 32, 32, 3) and sample_read[1].dtype == np.uint8
    for split, per_class in (("train", 120), ("val", 20), ("test", 60)):
        labels = images.labels[images.source_split == SPLITS[split]]
        assert np.bincount(labels).tolist() == [per_class] * 10
    assert images.class_names[:3] == ("airplane", "automobile", "bird")
    assert len(set(images.names)) == 2000


def test_the_sample_takes_less_than_4_mb():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4e6


def test_a_prepared_sample_has_the_splits_of_the_source(prepared, images, sample_read):
    store = ImageStore(prepared(name="cifar10-sample"))
    assert store.counts == {"train": 1200, "val": 200, "test": 600}
    assert (store.images == sample_read[1]).all() and store.names == images.names
    smaller = ImageStore(prepared("smaller", name="cifar10-sample", subset=500, split_seed=3))
    assert smaller.counts == {"train": 300, "val": 50, "test": 150}


@pytest.mark.parametrize("bit", [0, 1])
def test_an_altered_pixel_is_refused(monkeypatch, tmp_path, bit):
    read_sheet = sample.read_sheet

    def altered(path: Path, count: int) -> np.ndarray:
        tiles = read_sheet(path, count).copy()
        tiles[5, 6, 7, 0] ^= bit
        return tiles

    monkeypatch.setattr(sample, "read_sheet", altered)
    if not bit:
        assert len(read(tmp_path / "images.npy")[1]) == 2000
        return
    with pytest.raises(DamagedFile, match="cifar10_sample: expected pixels and labels with sha256"):
        read(tmp_path / "images.npy")


def test_every_pixel_is_that_of_the_archive(images, sample_read):
    """HEADSTART_CIFAR10_ARCHIVE names a copy of CIFAR-10's archive; without one, the test is skipped."""
    archive = os.environ.get("HEADSTART_CIFAR10_ARCHIVE", "")
    if not Path(archive).is_file():
        pytest.skip("HEADSTART_CIFAR10_ARCHIVE names no archive of CIFAR-10")
    data = read_archive(ARCHIVES["cifar10"], Path(archive))
    with (FOLDER / TABLE).open(encoding="utf-8", newline="") as file:
        positions = [int(row["position"]) for row in csv.DictReader(file)]
    assert (data.images[positions] == sample_read[1]).all()
    assert (data.labels[positions] == images.labels).all()
    assert [data.names[position] for position in positions] == images.names
    is_test = np.array(positions) >= data.train_count
    assert (is_test == (images.source_split == SPLITS["test"])).all()
