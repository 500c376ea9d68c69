"""Only an archive with the seven members, byte for byte, is CIFAR-10; reading it writes no files."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
from small_archives import small_row

from pipeline.download import archive as cifar10
from pipeline.download.archive import check_archive, read_archive
from pipeline.download.cifar import ARCHIVES
from pipeline.download.obtain import find_existing
from pipeline.errors import DamagedFile

OFFICIAL = ARCHIVES["cifar10"]
ARCHIVE, EXTRACTED = OFFICIAL.file, OFFICIAL.folder
*BATCHES, META = (member.name for member in OFFICIAL.members)
PER_BATCH = 4
REAL = os.environ.get("HEADSTART_CIFAR10_URLS", "")


def batch(number: int, **changes) -> bytes:
    """Return a batch of four images; pixel values, labels and names identify each one."""
    rows = np.full((PER_BATCH, 3072), number, np.uint8)
    rows[:, :1024] = 100  # the red plane
    rows[:, 1024 + 33] = 200  # the green plane's second row, second column
    names = [f"{number}_{index}.png".encode() for index in range(PER_BATCH)]
    content = {b"data": rows, b"labels": [number, 0, 9, 1], b"filenames": names}
    return pickle.dumps({**content, **{key.encode(): value for key, value in changes.items()}}, protocol=3)


def contents() -> dict[str, bytes]:
    names = [f"class {index}".encode() for index in range(10)]
    members = {name: batch(number) for number, name in enumerate(BATCHES)}
    return {**members, META: pickle.dumps({b"label_names": names}, protocol=3)}


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tuple:
    header = tarfile.TarInfo(name)
    header.size, header.type, header.linkname = len(data), kind, linkname
    return header, data


def entries(members: dict[str, bytes]) -> list[tuple]:
    return [entry(f"{EXTRACTED}/{name}", data) for name, data in members.items()]


def archived(path: Path, parts: list[tuple], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for header, data in parts:
            archive.addfile(header, io.BytesIO(data))
    return path


ROW = small_row("cifar10", contents(), PER_BATCH)
check, read = functools.partial(check_archive, ROW), functools.partial(read_archive, ROW)


@pytest.fixture
def members() -> dict[str, bytes]:
    return contents()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / ARCHIVE


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_repacked_archive_is_accepted(members, path, mode, layout):
    with tarfile.open(path, mode, format=layout, pax_headers={"comment": "packed again"}) as archive:
        archive.addfile(entry(EXTRACTED, kind=tarfile.DIRTYPE)[0])
        for header, data in [
            *reversed(entries(members)),
            entry(f"{EXTRACTED}/readme.html", b"<html>" * 200),
        ]:
            header.mtime = 1234567890.5  # needs an extended header in the pax format
            archive.addfile(header, io.BytesIO(data))
    check(path)


def test_images_labels_and_names_are_in_batch_order_in_any_archive_order(members, path):
    data = read(archived(path, entries(members)[::-1]))
    assert (data.images.shape, data.images.dtype) == ((24, 32, 32, 3), np.uint8)
    assert (data.labels.shape, data.labels.dtype) == ((24,), np.int64)
    assert data.labels.tolist() == [label for number in range(6) for label in (number, 0, 9, 1)]
    assert data.names == [f"{number}_{index}.png" for number in range(6) for index in range(PER_BATCH)]
    assert data.class_names == tuple(f"class {index}" for index in range(10))
    assert data.train_count == 20
    assert data.images[9, 0, 0].tolist() == [100, 2, 2]
    assert data.images[9, 1, 1].tolist() == [100, 200, 2]


def test_reading_writes_nothing(members, path):
    read(archived(path, entries(members)))
    assert [file.name for file in path.parent.iterdir()] == [ARCHIVE]


LINK, HARD_LINK, DEVICE, PIPE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
MALICIOUS = {
    "parent folder": (entry("../outside", b"x"), "points outside"),
    "parent folder inside": (entry(f"{EXTRACTED}/../../outside", b"x"), "points outside"),
    "absolute path": (entry("/outside", b"x"), "points outside"),
    "symbolic link": (
        entry(f"{EXTRACTED}/readme.html", kind=LINK, linkname="/etc/passwd"),
        "is a link, a device",
    ),
    "hard link": (entry("copy", kind=HARD_LINK, linkname="/etc/passwd"), "is a link, a device"),
    "device": (entry("null", kind=DEVICE), "is a link, a device"),
    "pipe": (entry("pipe", kind=PIPE), "is a link, a device"),
}


@pytest.mark.parametrize(("extra", "reason"), MALICIOUS.values(), ids=MALICIOUS)
def test_fault_05_malicious_members_are_refused_and_nothing_is_written(members, path, extra, reason):
    archived(path, [extra, *entries(members)])
    with pytest.raises(DamagedFile, match=reason):
        check(path)
    assert [file.name for file in path.parent.iterdir()] == [ARCHIVE]


@pytest.mark.parametrize("kind", [LINK, HARD_LINK, DEVICE, PIPE, tarfile.DIRTYPE, tarfile.CONTTYPE])
def test_fault_05_a_member_must_be_a_regular_file(members, path, kind):
    del members["data_batch_2"]
    archived(
        path, [*entries(members), entry(f"{EXTRACTED}/data_batch_2", kind=kind, linkname="data_batch_1")]
    )
    with pytest.raises(DamagedFile, match="data_batch_2.* is (a link, a device|not a regular file)"):
        check(path)


def test_fault_05_missing_members_are_named(members, path):
    del members["data_batch_2"], members["batches.meta"]
    with pytest.raises(DamagedFile, match="missing data_batch_2, batches.meta; expected 7 members"):
        check(archived(path, entries(members)))


def test_fault_05_a_duplicate_member_is_refused(members, path):
    with pytest.raises(DamagedFile, match="data_batch_1 is in the archive twice"):
        check(archived(path, entries(members) + entries(members)[:1]))


def test_fault_05_a_member_of_the_wrong_size_is_refused_before_it_is_read(members, path):
    wrong = [entry(f"{EXTRACTED}/data_batch_1", members["data_batch_1"] + b"x")]
    with pytest.raises(DamagedFile, match=r"size of data_batch_1 differs: expected \d+ bytes, found \d+"):
        check(archived(path, wrong))


def test_fault_05_a_member_that_claims_a_huge_size_is_refused(members, path):
    header, _ = entry("huge")
    header.size = 10**12
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(DamagedFile, match="'huge' exceeds the limits of 268435456 bytes"):
        check(path)


def test_fault_05_a_huge_size_in_an_extended_header_is_refused(members, path):
    header, _ = entry("huge")
    header.pax_headers = {"size": str(10**12)}
    path.write_bytes(header.tobuf(tarfile.PAX_FORMAT))
    with pytest.raises(DamagedFile, match="'huge' exceeds the limits of 268435456 bytes"):
        check(path)


@pytest.mark.parametrize("size", [-512, -1024, -(10**12)])
def test_fault_05_a_negative_size_is_refused(members, path, size):
    header, _ = entry("negative")
    header.size = size
    following = archived(path, entries(members), "w").read_bytes()
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + following)
    with pytest.raises(DamagedFile, match="seeking backwards|missing data_batch_1"):
        check(path)


def test_fault_05_a_gzip_bomb_is_stopped_at_the_limit(members, path, monkeypatch):
    monkeypatch.setattr(cifar10, "MAX_UNPACKED_BYTES", 1 << 20)
    zeros = bytes(300 << 10)
    archived(path, [entry(f"filler {number}", zeros) for number in range(4)])
    assert path.stat().st_size < 10_000
    with pytest.raises(DamagedFile, match="'filler 3' exceeds the limits of 1048576 bytes"):
        check(path)


def test_fault_05_many_members_are_stopped_at_the_limit(members, path):
    archived(path, [entry(f"filler {number}") for number in range(300)])
    with pytest.raises(DamagedFile, match="'filler 256' exceeds the limits of .* 256 members"):
        check(path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_fault_05_a_long_extended_header_is_refused_before_it_is_read(members, path, kind):
    header, _ = entry("x", kind=kind)
    header.size = 5 << 20
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(DamagedFile, match="an extended header takes 5242880 bytes"):
        check(path)


def test_fault_05_a_chain_of_extended_headers_is_refused(members, path):
    header, _ = entry("x", kind=tarfile.XHDTYPE)
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(DamagedFile, match="RecursionError"):
        check(path)


NOT_TARS = {
    "an HTML page": (
        b"<!DOCTYPE html><title>Moved</title>" + b" " * 600,
        "not a valid tar archive .* starts with b'<!DOC",
    ),
    "a short HTML page": (b"<html>Busy</html>", "starts with b'<html>Busy</html>'"),
    "a packed HTML page": (gzip.compress(b"<html>Busy</html>"), "truncated header"),
    "an empty file": (b"", "empty file.*; it starts with b''"),
    "zeros": (bytes(1024), "missing data_batch_1, "),
    "the start of gzip": (b"\x1f\x8b\x08", "EOFError"),
    "a broken gzip": (b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 100, "error: Error -3 while decompressing"),
}


@pytest.mark.parametrize(("content", "reason"), NOT_TARS.values(), ids=NOT_TARS)
def test_fault_02_a_file_that_is_not_an_archive_is_refused_with_the_reason(members, path, content, reason):
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=reason):
        check(path)


def test_a_missing_archive_is_a_damaged_file(path):
    with pytest.raises(DamagedFile, match=r"could not be read \(No such file"):
        check(path)


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_truncated_archive_is_refused(members, path, mode, share):
    complete = archived(path, entries(members), mode).read_bytes()
    path.write_bytes(complete[: int(len(complete) * share)])
    with pytest.raises(DamagedFile, match="not a valid tar archive|missing"):
        check(path)


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("function", [check, read])
def test_fault_07_one_flipped_byte_is_detected_and_its_member_named(members, path, name, function):
    damaged = bytearray(members[name])
    damaged[len(damaged) // 2] ^= 1
    archived(path, entries({**members, name: bytes(damaged)}))
    expected, actual = (hashlib.sha256(data).hexdigest() for data in (members[name], damaged))
    with pytest.raises(DamagedFile, match=f"sha256 of {name} differs: expected {expected}, found {actual}"):
        function(path)


def test_fault_07_no_flip_in_the_packed_bytes_changes_what_is_read(members, path):
    original = archived(path, entries(members)).read_bytes()
    expected = read(path)
    refused = 0
    for position in range(0, len(original), len(original) // 100):
        damaged = bytearray(original)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:  # some bytes do not matter, such as the file name in the gzip header
            np.testing.assert_array_equal(read(path).images, expected.images)
        except DamagedFile:
            refused += 1
    assert refused > 50


WRONG_CONTENTS = {
    "a label of ten": (batch(1, labels=[0, 1, 2, 10]), "expected labels 0 to 9, found 0 to 10"),
    "a negative label": (batch(1, labels=[0, 1, 2, -1]), "expected labels 0 to 9, found -1 to 2"),
    "too few labels": (batch(1, labels=[0, 1, 2]), "expected 4 labels, found 3"),
    "labels of the wrong type": (
        batch(1, labels=["a", "b", "c", "d"]),
        "expected labels to be a list of int",
    ),
    "no file names": (batch(1, filenames=None), "expected filenames to be a list of bytes"),
    "images of the wrong size": (
        batch(1, data=np.zeros((4, 12), np.uint8)),
        r"\(4, 3072\) uint8, found \(4, 12\) uint8",
    ),
    "no images": (batch(1, data=b"x"), r"expected data \(4, 3072\) uint8, found none none"),
    "floats": (
        batch(1, data=np.zeros((4, 3072))),
        r"expected data \(4, 3072\) uint8, found \(4, 3072\) float64",
    ),
    "a list": (pickle.dumps([1], protocol=3), "expected a dictionary, found list"),
    "not a pickle": (b"GIF89a", "not a pickle"),
}


@pytest.mark.parametrize(("content", "reason"), WRONG_CONTENTS.values(), ids=WRONG_CONTENTS)
def test_invalid_content_is_refused_and_its_member_named(path, content, reason):
    members = {**contents(), "data_batch_2": content}
    with pytest.raises(DamagedFile, match=f"data_batch_2: .*{reason}"):
        read_archive(small_row("cifar10", members, PER_BATCH), archived(path, entries(members)))


def test_a_label_without_a_class_name_is_refused(path):
    members = {**contents(), META: pickle.dumps({b"label_names": [b"cat"]}, protocol=3)}
    with pytest.raises(DamagedFile, match="expected a name for label 9, found 1 names"):
        read_archive(small_row("cifar10", members, PER_BATCH), archived(path, entries(members)))


def test_existing_archives_are_found_most_likely_first(tmp_path, monkeypatch):
    folder, keras = tmp_path / "data", tmp_path / "keras"
    monkeypatch.setenv("KERAS_HOME", str(keras))
    (keras / "datasets" / "cifar-10-batches-py-target").mkdir(parents=True)
    folder.mkdir()
    assert find_existing(OFFICIAL, folder) == []
    expected = [folder / ARCHIVE]
    expected += [keras / "datasets" / name for name in ("cifar-10-batches-py-target_archive", ARCHIVE)]
    for archive in expected:
        archive.touch()
    assert find_existing(OFFICIAL, folder) == expected


def test_the_table_holds_seven_members_within_the_limits():
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    assert [*BATCHES, META] == [*batches, "test_batch", "batches.meta"]
    assert [member.images for member in OFFICIAL.members] == [10_000] * 6 + [0]
    assert sum(member.bytes for member in OFFICIAL.members) < cifar10.MAX_UNPACKED_BYTES


@pytest.mark.slow
@pytest.mark.skipif(not REAL.startswith("file://"), reason="HEADSTART_CIFAR10_URLS names no file:// archive")
def test_the_real_archive_is_read_completely():
    data = read_archive(OFFICIAL, Path(url2pathname(urlsplit(REAL.split(",")[0].strip()).path)))
    assert data.images.shape == (60_000, 32, 32, 3)
    assert np.bincount(data.labels[: data.train_count]).tolist() == [5000] * 10
    assert np.bincount(data.labels[data.train_count :]).tolist() == [1000] * 10
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    assert len(set(data.names)) == 60_000
    # The usual mean of the training images, in fractions of 255.
    mean = data.images[: data.train_count].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, (0.49139968, 0.48215841, 0.44653091), atol=1e-7)
