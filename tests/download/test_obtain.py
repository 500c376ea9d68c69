"""A local file is used if it is valid, and skipped if it is not."""

from __future__ import annotations

import functools
import tarfile
from pathlib import Path

import pytest

from pipeline.download import obtain as module
from pipeline.download.cifar import ARCHIVES
from pipeline.errors import DamagedFile, DownloadFailed

MEMBERS = ARCHIVES["cifar10"].members
obtain = functools.partial(module.obtain, row=ARCHIVES["cifar10"], advice="")


@pytest.mark.parametrize("error", [DamagedFile("not this one"), PermissionError(13, "Permission denied")])
def test_a_file_that_is_refused_or_cannot_be_read_is_skipped(tmp_path, caplog, error):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"bad")
    second.write_bytes(b"good")

    def check(path: Path) -> None:
        if path.read_bytes() == b"bad":
            raise error

    target = tmp_path / "target" / "file"
    came_from = obtain(target, urls=[], existing=[first, second], check=check)
    assert came_from == str(second)
    assert target.read_bytes() == b"good"
    assert f"skipping {first}: {error}" in caplog.text
    assert sorted(path.name for path in target.parent.iterdir()) == ["file"]


@pytest.fixture
def extracted(tmp_path) -> Path:
    """A folder with the names of CIFAR-10's members, one of them a link, and a file that does not belong."""
    folder = tmp_path / "any name"
    folder.mkdir()
    for member in MEMBERS[1:]:
        (folder / member.name).write_text(member.name)
    (tmp_path / "elsewhere").write_text(MEMBERS[0].name)
    (folder / MEMBERS[0].name).symlink_to(tmp_path / "elsewhere")
    (folder / "holiday.mp4").write_text("private")
    return folder


def test_only_the_members_of_an_extracted_folder_are_packed_whatever_its_name(tmp_path, extracted):
    target = tmp_path / "target" / "file.tar.gz"
    assert obtain(target, urls=[], existing=[extracted], check=lambda _: None) == str(extracted)
    with tarfile.open(target) as archive:
        assert archive.getnames() == [f"cifar-10-batches-py/{member.name}" for member in MEMBERS]
        assert all(archive.extractfile(name).read().decode() in name for name in archive.getnames())


def test_an_extracted_folder_with_a_missing_file_is_skipped(tmp_path, extracted, caplog):
    (extracted / "test_batch").unlink()
    second, target = tmp_path / "second", tmp_path / "target" / "file"
    second.write_bytes(b"good")
    came_from = obtain(target, urls=[], existing=[extracted, second], check=lambda _: None)
    assert came_from == str(second)
    assert "test_batch: could not be read (No such file or directory)" in caplog.text


def test_a_url_of_another_folder_is_refused_with_the_reason(tmp_path):
    with pytest.raises(DownloadFailed, match="a folder, and not CIFAR-10"):
        obtain(tmp_path / "file", urls=[tmp_path.as_uri()], existing=[], check=lambda _: None)
