"""A prepared data set reads back unchanged; damage is an error."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.datasets import readers
from pipeline.datasets.images import ImageWriter
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.readers import read_digits
from pipeline.datasets.store import DATASET_FILE, IMAGES_FILE, ImageStore
from pipeline.datasets.table import DATASETS, TEST
from pipeline.errors import BadInput, DamagedFile
from pipeline.progress import silent


def test_digits_have_the_documented_counts_shapes_types_and_names(prepared):
    store = ImageStore(prepared())
    assert len(store) == DATASETS["digits"].size == 1797
    images = store.images
    assert (images.shape, images.dtype) == ((1797, 32, 32, 3), np.uint8)
    assert (store.labels.dtype, store.index.dtype, store.split.dtype) == (np.int64, np.int64, np.uint8)
    assert store.index.tolist() == list(range(1797))
    assert (store.names[0], store.names[-1]) == ("digit_0000.png", "digit_1796.png")
    assert store.class_names == list("0123456789")
    assert store.counts == {"train": 1258, "val": 180, "test": 359}
    assert {name: len(store.rows(name)) for name in store.counts} == store.counts
    assert store.row is DATASETS["digits"]


def test_labels_match_the_source(prepared):
    from sklearn.datasets import load_digits

    assert (ImageStore(prepared()).labels == load_digits().target).all()


def test_images_are_enlarged_digits(prepared):
    from sklearn.datasets import load_digits

    images, small = ImageStore(prepared()).images, load_digits().images
    assert (images[..., 0] == images[..., 1]).all()
    assert (images[..., 0] == images[..., 2]).all()
    assert images.max() == 255
    blocks = images[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4)) * 16 / 255
    assert np.corrcoef(blocks.ravel(), small.ravel())[0, 1] > 0.97


def test_digits_with_another_checksum_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(DamagedFile, match="scikit-learn's digits: expected sha256 0{64}, found 8f26b2bd"):
        read_digits(None, ImageWriter(tmp_path / "images.npy", 32), silent)


def test_images_are_mapped_and_not_in_memory(prepared):
    images = ImageStore(prepared(subset=100)).images
    assert isinstance(images, np.memmap) and not images.flags.writeable
    assert (np.load(images.filename) == images).all()  # a file that NumPy reads


def test_preparing_twice_gives_the_same_bytes(prepared):
    first = prepared("first", subset=100)
    time.sleep(1.1)  # HDF5 stores times in seconds
    second = prepared("second", subset=100)
    for name in (DATASET_FILE, IMAGES_FILE):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_subset_keeps_label_name_split_and_pixels_of_each_image(prepared):
    full, part = ImageStore(prepared("full")), ImageStore(prepared("part", subset=150))
    assert len(part) == 150
    assert (part.labels == full.labels[part.index]).all()
    assert (part.split == full.split[part.index]).all()
    assert part.names == [full.names[position] for position in part.index]
    assert (part.images == full.images[part.index]).all()
    assert part.counts == {"train": 105, "val": 15, "test": 30}


@pytest.mark.parametrize("subset", [1, 99, 1798, -5])
def test_subset_out_of_bounds_is_an_error_with_the_bounds(subset):
    message = rf"subset of digits: expected 0 \(all images\) or 100 to 1797 images, received {subset}"
    with pytest.raises(BadInput, match=message):
        dataset_fingerprint("digits", subset=subset, split_seed=0)


def test_subset_of_all_images_has_the_fingerprint_of_the_full_data_set():
    full, all_images = (dataset_fingerprint("digits", subset=count, split_seed=0) for count in (0, 1797))
    assert full == all_images


def test_unknown_data_set_is_an_error_that_lists_the_names():
    with pytest.raises(
        BadInput,
        match="unknown dataset 'mnist': expected one of cifar10, cifar10-sample, cifar100, csv:PATH, digits",
    ):
        dataset_fingerprint("mnist", subset=0, split_seed=0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", [DATASET_FILE, IMAGES_FILE])
def test_fault_13_a_flipped_bit_is_refused(prepared, flip_byte, name, share):
    path = prepared(subset=100) / name
    flip_byte(path, int(share * path.stat().st_size))
    with pytest.raises(DamagedFile, match=f"{name}: expected sha256"):
        assert ImageStore(path.parent).images


def test_images_are_checked_when_first_used_unless_the_caller_has_done_so(prepared, flip_byte):
    folder = prepared(subset=100)
    flip_byte(folder / IMAGES_FILE)
    assert len(ImageStore(folder)) == 100
    assert ImageStore(folder, images_checked=True).images.shape == (100, 32, 32, 3)
    (folder / IMAGES_FILE).write_bytes(b"")
    with pytest.raises(DamagedFile, match=f"{IMAGES_FILE}: expected .* bytes, found 0"):
        assert ImageStore(folder, images_checked=True).images


def test_fault_07_a_damaged_archive_prepares_nothing(prepared, small_archive, tmp_path, flip_byte):
    flip_byte(small_archive)
    with pytest.raises(DamagedFile, match="cifar-10-python.tar.gz"):
        prepared("cifar10", name="cifar10", source=small_archive)
    assert not (tmp_path / "cifar10").exists()


def test_cifar10_is_read_from_its_archive_with_the_official_test_split(prepared, small_archive):
    store = ImageStore(prepared("cifar10", name="cifar10", source=small_archive))
    assert store.counts == {"train": 90, "val": 10, "test": 20}
    assert store.class_names == [f"class {number}" for number in range(10)]
    assert ((store.split == TEST) == (np.arange(120) >= 100)).all()
    assert sorted(store.labels[store.rows("val")]) == list(range(10))
    position = store.names.index("3_7.png")
    assert (store.index[position], store.labels[position]) == (67, 7)
    assert store.images[position, 5, 5].tolist() == [3, 7, 0]
