"""A local file is used if it is valid, and skipped if it is not."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.download import obtain as module
from pipeline.download.cifar import ARCHIVES
from pipeline.errors import DamagedFile, DownloadFailed
from pipeline.progress import silent
from pipeline.storage.publishing import read_manifest

FILE, MEMBERS = ARCHIVES["cifar10"].file, ARCHIVES["cifar10"].members


@pytest.fixture
def obtain(tmp_path, monkeypatch) -> Callable[..., str]:
    """Return a function that obtains CIFAR-10 in target/ from raw/, the Keras cache and URLs.

    Any archive is accepted unless a check is given.
    """
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def run(urls=(), check=lambda path: None) -> str:
        monkeypatch.setattr(module, "check_archive", lambda _, path: check(path))
        places = str(tmp_path / "target"), str(tmp_path / "raw")
        return module.obtain_archive("cifar10", {}, *places, list(urls), silent)

    return run


@pytest.fixture
def in_raw(tmp_path) -> Path:
    """An archive in raw/ that comes before one in Keras's cache."""
    first, second = tmp_path / "raw" / FILE, tmp_path / "keras" / "datasets" / FILE
    for path, content in ((first, b"bad"), (second, b"good")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return first


@pytest.fixture
def in_cache(tmp_path) -> Path:
    return tmp_path / "keras" / "datasets" / FILE


@pytest.mark.parametrize("error", [DamagedFile("not this one"), PermissionError(13, "Permission denied")])
def test_a_file_that_is_refused_or_cannot_be_read_is_skipped(
    obtain, in_raw, in_cache, tmp_path, caplog, error
):
    def check(path: Path) -> None:
        if path.read_bytes() == b"bad":
            raise error

    assert obtain(check=check) == str(in_cache)
    target = tmp_path / "target" / FILE
    assert target.read_bytes() == b"good"
    assert f"skipping {in_raw}: {error}" in caplog.text
    assert read_manifest(target.parent).facts == {"came_from": str(in_cache)}
    assert sorted(path.name for path in target.parent.iterdir()) == [FILE, "manifest.json"]


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


def test_only_the_members_of_an_extracted_folder_are_packed_whatever_its_name(obtain, tmp_path, extracted):
    assert obtain([extracted.as_uri()]) == str(extracted)
    with tarfile.open(tmp_path / "target" / FILE) as archive:
        assert archive.getnames() == [f"cifar-10-batches-py/{member.name}" for member in MEMBERS]
        assert all(archive.extractfile(name).read().decode() in name for name in archive.getnames())


def test_an_extracted_folder_with_a_missing_file_is_skipped(obtain, tmp_path, extracted, caplog):
    (extracted / "test_batch").unlink()
    second = tmp_path / "second"
    second.write_bytes(b"good")
    assert obtain([extracted.as_uri(), second.as_uri()]) == second.as_uri()
    assert "test_batch: could not be read (No such file or directory)" in caplog.text


def test_a_url_of_another_folder_is_refused_with_the_reason(obtain, tmp_path):
    with pytest.raises(DownloadFailed, match="a folder, and not CIFAR-10"):
        obtain([tmp_path.as_uri()])
