"""A local file is used if it is valid, and skipped if it is not."""

from __future__ import annotations

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
        if path == first:
            raise error

    target = tmp_path / "target" / "file"
    came_from = obtain(target, urls=[], existing=[first, second], check=check, advice="")
    assert came_from == str(second)
    assert target.read_bytes() == b"good"
    assert f"skipping {first}: {error}" in caplog.text
