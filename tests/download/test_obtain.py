"""A local file is used if it is valid, and skipped if it is not."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from pipeline.download.obtain import obtain
from pipeline.errors import DamagedFile


@pytest.mark.parametrize("error", [DamagedFile("not this one"), PermissionError(13, "Permission denied")])
def test_a_file_that_is_refused_or_cannot_be_read_is_skipped(tmp_path, caplog, error):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"bad")
    second.write_bytes(b"good")

    def check(path: Path) -> None:
        if path.read_bytes() == b"bad":
            raise error

    target = tmp_path / "target" / "file"
    came_from = obtain(target, urls=[], existing=[first, second], check=check, advice="")
    assert came_from == str(second)
    assert target.read_bytes() == b"good"
    assert f"skipping {first}: {error}" in caplog.text
    assert sorted(path.name for path in target.parent.iterdir()) == ["file"]


def test_a_folder_is_packed_into_an_archive_and_not_modified(tmp_path):
    folder, target = tmp_path / "extracted", tmp_path / "target" / "file.tar.gz"
    folder.mkdir()
    (folder / "b").write_bytes(b"two")
    (folder / "a").write_bytes(b"one")
    assert obtain(target, urls=[], existing=[folder], check=lambda _: None, advice="") == str(folder)
    with tarfile.open(target) as archive:
        assert archive.getnames() == ["extracted/a", "extracted/b"]
        assert archive.extractfile("extracted/b").read() == b"two"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
