"""Publishing: readers get either the new content or the old content, never anything else."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DamagedFile
from pipeline.storage.publishing import (
    MANIFEST,
    publish_manifest,
    publish_sealed,
    published,
    read_manifest,
    read_sealed,
    why_incomplete,
)

CONTENTS = st.dictionaries(
    st.text("abcdefghij", min_size=1, max_size=6).map(lambda name: f"{name}.bin"),
    st.binary(min_size=1, max_size=60),
    min_size=1,
    max_size=4,
)
VALUES = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "seal"), st.integers() | st.text(max_size=9)
)


@pytest.fixture(scope="module")
def root():
    """A folder for all examples; each uses its own sub-folder."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


def publish_folder(root: Path, contents: dict[str, bytes]) -> Path:
    folder = Path(tempfile.mkdtemp(dir=root))
    for name, data in contents.items():
        with published(folder / name) as scratch:
            scratch.write_bytes(data)
    publish_manifest(folder, {"names": sorted(contents)}, list(contents), {"count": len(contents)})
    return folder


@given(CONTENTS)
def test_published_files_are_read_back_and_nothing_else_is_left(root, contents):
    folder = publish_folder(root, contents)
    manifest = read_manifest(folder)
    assert {name: manifest.verified(name).read_bytes() for name in manifest.files} == contents
    assert {path.name for path in folder.iterdir()} == {*contents, MANIFEST}
    assert why_incomplete(folder, {"names": sorted(contents)}) is None


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=40), st.booleans())
def test_a_failed_write_leaves_the_old_bytes(root, old, new, writes_first):
    target = Path(tempfile.mkdtemp(dir=root)) / "one.bin"
    target.write_bytes(old)
    with pytest.raises(RuntimeError), published(target) as scratch:
        if writes_first:
            scratch.write_bytes(new)
        raise RuntimeError
    assert target.read_bytes() == old and list(target.parent.iterdir()) == [target]


@given(CONTENTS, st.data())
def test_every_changed_byte_of_a_finished_folder_is_detected(root, contents, data):
    folder = publish_folder(root, contents)
    name = data.draw(st.sampled_from([*sorted(contents), MANIFEST]))
    path, before = folder / name, read_manifest(folder)
    damaged = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    if name != MANIFEST:
        with pytest.raises(DamagedFile, match="expected sha256"):
            before.verified(name)
        return
    try:
        after = read_manifest(folder)
    except DamagedFile:
        return
    assert (after.fingerprint, after.files, after.facts) == (before.fingerprint, before.files, before.facts)


@given(VALUES)
def test_a_sealed_object_is_read_back_and_a_changed_one_is_refused(root, value):
    path = Path(tempfile.mkdtemp(dir=root)) / "one.json"
    publish_sealed(path, value)
    assert read_sealed(path) == value
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "another": 1}))
    with pytest.raises(DamagedFile, match="does not match its seal"):
        read_sealed(path)
