"""A flipped bit in any kind of stored file is reported, quarantined, and repaired by the next run."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from small_graphs import LITTLE

from pipeline.errors import DamagedFile
from pipeline.storage.publishing import MANIFEST, read_sealed, sha256_of
from pipeline.upkeep.inventory import damages, entries

FLIPS = 200
KINDS = {".h5", ".keras", ".json", ".csv", ".png", ".md", ".txt", ".html"}
COSTS = ("train_seconds", "extract_seconds", "total_seconds", "peak_memory_mb")


def files_by_kind(data: Path) -> dict[str, list[Path]]:
    """Return the files of the data folder by kind, without locks and cached copies."""
    files = defaultdict(list)
    for path in sorted(data.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(data).parts)
        if path.is_file() and not hidden:
            kind = "events" if path.name.startswith("events") else path.suffix
            files[kind].append(path)
    return dict(files)


def unlink_copy(path: Path) -> Path:
    """Replace a hard link by a copy of the file."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def test_fault_13_each_of_200_flipped_bits_is_detected(little, flip_byte):
    kinds, draws = files_by_kind(little), random.Random(0)
    assert set(kinds) >= KINDS
    folders = {entry.folder: entry for entry in entries(little)}
    for _ in range(FLIPS):
        path = draws.choice(kinds[draws.choice(sorted(kinds))])
        entry = folders[next(place for place in path.parents if place in folders)]
        if path.name == "weights.h5":
            unlink_copy(path)
        content, position, bit = path.read_bytes(), draws.randrange(path.stat().st_size), draws.randrange(8)
        flip_byte(path, position, mask=1 << bit)
        named = [damage.path for damage in damages(little, _again(little, entry))]
        if path in (entry.folder / name for name in (MANIFEST, *entry.manifest.files)):
            assert named == [path], (path, position, bit)
        else:  # a note or costs of a section: readers reject a changed file
            assert _is_rejected_or_equal(path, content), (path, position, bit)
        path.write_bytes(content)


def _again(data: Path, entry):
    """Return an entry as it is now."""
    return next(other for other in entries(data) if other.folder == entry.folder)


def _is_rejected_or_equal(path: Path, content: bytes) -> bool:
    before = path.with_name("before.json")
    before.write_bytes(content)
    expected = read_sealed(before)
    before.unlink()
    try:
        values = read_sealed(path)
    except DamagedFile:
        return True
    return {name: values.get(name) for name in expected} == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fault_13_files_with_flipped_bits_are_quarantined_and_only_they_are_made_again(
    little, headstart, flip_byte
):
    command = ("run", "--preset", LITTLE.name, "--precision", "float32")
    report = little / "reports" / LITTLE.name
    expected, predictions = _results(report), sha256_of(next(little.glob("runs/*/predictions.h5")))
    kinds = files_by_kind(little)
    flipped = [unlink_copy(paths[0]) for kind, paths in sorted(kinds.items()) if kind != ".json"]
    before = {path: path.stat().st_mtime_ns for paths in kinds.values() for path in paths}
    for path in flipped:
        flip_byte(path)
    damaged = {path: path.read_bytes() for path in flipped}
    code, output, _ = headstart("verify", "--sample", "0", "--repair")
    assert all(str(path.relative_to(little)) in output for path in flipped)
    moved = {path.name: path.read_bytes() for path in little.glob("quarantine/**/*") if path.is_file()}
    assert all(moved[path.name] == content for path, content in damaged.items())
    code, _, _ = headstart(*command)
    assert code == 0
    assert headstart("verify", "--sample", "0")[0] == 0
    pd.testing.assert_frame_equal(_results(report), expected)
    assert sha256_of(next(little.glob("runs/*/predictions.h5"))) == predictions
    touched = {path.parent for path in flipped}
    for path, changed in before.items():
        if not any(place in touched for place in path.parents) and "reports" not in path.parts:
            assert path.stat().st_mtime_ns == changed, path


def _results(report: Path) -> pd.DataFrame:
    return pd.read_csv(report / "comparison.csv").drop(columns=list(COSTS))
