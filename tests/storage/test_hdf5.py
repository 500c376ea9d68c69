"""HDF5 files are reproducible, never silently wrong, and never expose other files."""

from __future__ import annotations

import time

import h5py
import numpy as np
import pytest

from pipeline.errors import DamagedFile
from pipeline.storage import hdf5

VALUES = np.arange(3000, dtype=np.float32).reshape(100, 30)
NAMES = [f"é{number}.png" for number in range(100)]


def write(path) -> None:
    with hdf5.created(path) as file:
        hdf5.write_array(file, "values", VALUES)
        hdf5.write_texts(file, "names", NAMES)
        hdf5.write_array(hdf5.create_group(file, "group"), "numbers", np.arange(7))


def read(path) -> tuple:
    with hdf5.opened(path) as file:
        return (
            file["values"][:].tolist(),
            hdf5.read_texts(file, "names"),
            file["group"]["numbers"][:].tolist(),
        )


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "file.h5")
    return tmp_path / "file.h5"


@pytest.fixture
def foreign(tmp_path):
    """The path of a file from another program, with a secret beside it."""
    (tmp_path / "secret.txt").write_bytes(b"secret: " * 30)
    write(tmp_path / "elsewhere.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["plain"] = np.zeros(3)
    return tmp_path / "foreign.h5"


def test_what_was_written_is_read_back(path):
    assert read(path) == (VALUES.tolist(), NAMES, list(range(7)))


def test_the_same_data_gives_the_same_bytes_at_another_time(path, tmp_path):
    time.sleep(1.1)  # HDF5 stores timestamps in whole seconds
    write(tmp_path / "again.h5")
    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes()


def test_every_dataset_has_checksums_in_equal_chunks_of_up_to_a_megabyte(tmp_path):
    with hdf5.created(tmp_path / "large.h5") as file:
        hdf5.write_array(file, "values", np.zeros((3000, 256), np.float32))
        hdf5.write_texts(file, "names", [""])
    with hdf5.opened(tmp_path / "large.h5") as file:
        assert file["values"].chunks == (1000, 256)
        assert file["values"].fletcher32
        assert file["names"].fletcher32
        assert hdf5.read_texts(file, "names") == [""]


def test_a_block_that_raises_writes_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), hdf5.created(tmp_path / "file.h5") as file:
        hdf5.write_array(file, "values", VALUES)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_fault_13_no_flipped_bit_changes_the_values_read(path, flip_byte):
    original, expected = path.read_bytes(), read(path)
    rng = np.random.default_rng(0)
    positions = [*range(0, 200, 10), *rng.integers(0, len(original), 60).tolist()]
    refused = 0
    for position in positions:
        path.write_bytes(original)
        flip_byte(path, position, mask=1 << int(rng.integers(8)))
        try:
            assert read(path) == expected
        except DamagedFile:
            refused += 1
    assert refused > 60


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89HDF\r\n\x1a\n", b"\0" * 5000], ids=repr)
def test_fault_14_a_file_that_is_not_hdf5_is_a_damaged_file(tmp_path, content):
    (tmp_path / "file.h5").write_bytes(content)
    with pytest.raises(DamagedFile, match="file.h5: expected an HDF5 file"):
        read(tmp_path / "file.h5")


def test_a_missing_file_is_a_damaged_file(tmp_path):
    with pytest.raises(DamagedFile, match="file.h5: expected an HDF5 file"):
        read(tmp_path / "file.h5")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_fault_14_a_truncated_file_is_a_damaged_file(path, share):
    complete = path.read_bytes()
    path.write_bytes(complete[: int(share * len(complete))])
    with pytest.raises(DamagedFile, match="file.h5: "):
        read(path)


def external_link(file, folder):
    file["item"] = h5py.ExternalLink("elsewhere.h5", "/values")


def soft_link(file, folder):
    file["item"] = h5py.SoftLink("/plain")


def soft_link_in_a_group(file, folder):
    file["group/inner/item"] = h5py.SoftLink("/plain")


def virtual_dataset(file, folder):
    layout = h5py.VirtualLayout(shape=VALUES.shape, dtype=VALUES.dtype)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "values", shape=VALUES.shape)
    file.create_virtual_dataset("item", layout)


def external_storage(file, folder):
    where = [(str(folder / "secret.txt"), 0, 240)]
    file.create_dataset("item", shape=(240,), dtype=np.uint8, external=where)


def named_type(file, folder):
    file["item"] = np.dtype("f8")


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (external_link, "item is a link"),
        (soft_link, "item is a link"),
        (soft_link_in_a_group, "item is a link"),
        (virtual_dataset, "item stores its data in another file"),
        (external_storage, "item stores its data in another file"),
        (named_type, "item is not a dataset"),
    ],
)
def test_fault_25_a_file_that_refers_to_other_files_is_refused_on_opening(foreign, plant, message):
    with h5py.File(foreign, "r+") as file:
        plant(file, foreign.parent)
    with pytest.raises(DamagedFile, match=message), hdf5.opened(foreign):
        pytest.fail("was opened")


def test_a_group_that_contains_itself_is_refused_in_bounded_time(foreign):
    with h5py.File(foreign, "r+") as file:
        file["circle"] = file["/"]
    with pytest.raises(DamagedFile, match="more than 10,000 entries"), hdf5.opened(foreign):
        pytest.fail("was opened")


def test_a_missing_dataset_is_a_damaged_file(path):
    with pytest.raises(DamagedFile, match="file.h5: could not be read .*absent"), hdf5.opened(path) as file:
        file["absent"][:]


def sparse(file):
    file.create_dataset("item", shape=(10**12,), chunks=(1000,), dtype=np.float32)


def sparse_and_compressed(file):
    file.create_dataset("item", shape=(10**12,), chunks=(1000,), dtype=np.float32, compression="gzip")


def never_written(file):
    file.create_dataset("item", shape=(10**12,), dtype=np.float32)


def one_huge_chunk(file):
    file.create_dataset("item", shape=(10,), chunks=(1 << 27,), maxshape=(None,), dtype=np.float32)


@pytest.mark.parametrize("plant", [sparse, sparse_and_compressed, never_written, one_huge_chunk])
def test_a_dataset_that_declares_more_than_its_file_can_hold_is_refused_on_opening(foreign, plant):
    with h5py.File(foreign, "r+") as file:
        plant(file)
    assert foreign.stat().st_size < 10_000
    with pytest.raises(DamagedFile, match=r"/item declares \d+ bytes, more than its file of \d+ bytes"):
        open_only(foreign)


def test_variable_length_values_and_empty_datasets_are_refused(foreign):
    """A thousand variable-length strings can share one copy in the file, but not in memory."""
    for value in (np.array(["a", "bc"], h5py.string_dtype()), h5py.Empty("f4")):
        with h5py.File(foreign, "w") as file:
            file["item"] = value
        with pytest.raises(DamagedFile, match="item is empty or has variable-length values"):
            open_only(foreign)


def test_names_that_are_not_text_are_refused(foreign):
    with h5py.File(foreign, "r+") as file:
        h5py.h5g.create(file.id, b"\xff")
    with pytest.raises(DamagedFile, match="foreign.h5: could not be read"):
        open_only(foreign)


def open_only(path):
    with hdf5.opened(path):
        pytest.fail("was opened")


def test_compressed_datasets_are_read(foreign):
    with h5py.File(foreign, "r+") as file:
        file.create_dataset("zeros", data=np.zeros(1 << 20), compression="gzip")
    with hdf5.opened(foreign) as file:
        assert hdf5.read_array(file, "zeros", kinds="f").sum() == 0


@pytest.mark.parametrize(
    ("name", "kinds", "actual"),
    [
        ("group", "f", "none"),
        ("values/inner", "f", "none"),
        ("absent", "f", "none"),
        ("values", "iu", "float32"),
        ("names", "f", r"\|S"),
    ],
)
def test_an_item_that_is_not_a_dataset_of_the_kind_is_a_damaged_file(path, name, kinds, actual):
    message = f"expected a dataset {name} of kind {kinds}, found {actual}"
    with hdf5.opened(path) as file, pytest.raises(DamagedFile, match=message):
        hdf5.read_array(file, name, kinds=kinds)


def test_texts_that_are_not_utf_8_are_a_damaged_file(foreign):
    with h5py.File(foreign, "r+") as file:
        file["names"] = np.array([b"\xff"])
    with hdf5.opened(foreign) as file, pytest.raises(DamagedFile, match="expected names in UTF-8"):
        hdf5.read_texts(file, "names")
