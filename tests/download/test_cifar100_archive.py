"""CIFAR-100 is downloaded, verified and read by the code of CIFAR-10, with fine labels."""

from __future__ import annotations

import hashlib
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from small_archives import small_members, small_row, write_archive

from pipeline.download.archive import MAX_UNPACKED_BYTES, check_archive, read_archive
from pipeline.download.cifar import ARCHIVES
from pipeline.download.obtain import obtain_archive
from pipeline.errors import DamagedFile, DownloadFailed
from pipeline.progress import silent

PER_BATCH = 30
FOLDER, FILE = "cifar-100-python", "cifar-100-python.tar.gz"


@pytest.fixture
def members() -> dict[str, bytes]:
    return small_members("cifar100", PER_BATCH)


@pytest.fixture
def row(members, monkeypatch):
    """The row of a small archive, patched into the table."""
    row = small_row("cifar100", members, PER_BATCH)
    monkeypatch.setitem(ARCHIVES, "cifar100", row)
    return row


def test_the_row_has_the_published_digests_and_is_within_the_limits():
    row = ARCHIVES["cifar100"]
    assert {member.name: member.digest for member in row.members} == {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    }
    assert (row.algorithm, row.file, row.folder) == ("md5", FILE, FOLDER)
    assert [member.images for member in row.members] == [50_000, 10_000, 0]
    assert sum(member.bytes for member in row.members) < MAX_UNPACKED_BYTES


def test_fine_labels_and_their_names_are_read_in_order_and_coarse_ones_are_not(row, members, tmp_path):
    shuffled = {name: members[name] for name in ("meta", "test", "train")}
    data = read_archive(row, write_archive(tmp_path / FILE, "cifar100", shuffled))
    assert (data.images.shape, data.images.dtype) == ((180, 32, 32, 3), np.uint8)
    assert data.labels.tolist() == [number % 100 for number in range(150)] + list(range(30))
    assert data.class_names == tuple(f"class {number}" for number in range(100))
    assert (data.names[149], data.names[150], data.train_count) == ("train_149.png", "test_0.png", 150)
    pixels = pickle.loads(members["test"])[b"data"].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(data.images[150:], pixels.transpose(0, 2, 3, 1))


def test_a_changed_byte_is_refused_in_one_line_with_both_digests(row, members, tmp_path):
    changed = bytearray(members["train"])
    changed[len(changed) // 2] ^= 1
    path = write_archive(tmp_path / FILE, "cifar100", {**members, "train": bytes(changed)})
    expected, found = (hashlib.md5(data).hexdigest() for data in (members["train"], changed))
    message = f"{path}: md5 of train differs: expected {expected}, found {found}"
    with pytest.raises(DamagedFile, match=f"^{re.escape(message)}$"):
        check_archive(row, path)


WRONG_CONTENTS = {
    "a label of a hundred": ({b"fine_labels": [100] * 30}, "expected labels 0 to 99, found 100 to 100"),
    "only coarse labels": ({b"fine_labels": None}, "expected fine_labels to be a list of int"),
    "too few labels": ({b"fine_labels": [1] * 29}, "expected 30 fine_labels, found 29"),
}


@pytest.mark.parametrize(("changes", "reason"), WRONG_CONTENTS.values(), ids=WRONG_CONTENTS)
def test_invalid_labels_are_refused_and_their_member_named(members, tmp_path, changes, reason):
    members["test"] = pickle.dumps({**pickle.loads(members["test"]), **changes}, protocol=3)
    path = write_archive(tmp_path / FILE, "cifar100", members)
    with pytest.raises(DamagedFile, match=f"{FILE}: test: {reason}"):
        read_archive(small_row("cifar100", members, PER_BATCH), path)


PLACES = [
    f"raw/{FILE}",
    f"raw/{FOLDER}",
    f"keras/datasets/{FOLDER}-target_archive",
    f"keras/datasets/{FILE}",
    f"keras/datasets/{FOLDER}-target/{FOLDER}",
    f"keras/datasets/{FOLDER}",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_local_archive_or_folder_is_used_instead_of_a_download(row, members, tmp_path, monkeypatch, place):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    path, target = tmp_path / place, tmp_path / "target"
    path.parent.mkdir(parents=True)
    if path.name == FOLDER:
        path.mkdir()
        for name, data in members.items():
            (path / name).write_bytes(data)
    else:
        write_archive(path, "cifar100", members)
    assert obtain_archive("cifar100", {}, str(target), str(tmp_path / "raw"), [], silent) == str(path)
    check_archive(row, target / FILE)
    with tarfile.open(target / FILE) as archive:
        assert sorted(archive.getnames()) == [f"{FOLDER}/{name}" for name in ("meta", "test", "train")]


def test_a_url_of_another_folder_is_refused_with_the_name_of_the_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    urls = [Path(tmp_path).as_uri()]
    with pytest.raises(DownloadFailed, match="a folder, and not CIFAR-100"):
        obtain_archive("cifar100", {}, str(tmp_path / "target"), str(tmp_path / "raw"), urls, silent)
