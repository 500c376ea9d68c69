"""Bits flip in every kind of file that the project keeps: each is named, put aside, and made again."""

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
    """Return the files of the data folder by their kind, locks and what is copied for speed left out."""
    found = defaultdict(list)
    for path in sorted(data.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(data).parts)
        if path.is_file() and not hidden:
            kind = "events" if path.name.startswith("events") else path.suffix
            found[kind].append(path)
    return dict(found)


def own(path: Path) -> Path:
    """Make path a file of its own where it is linked."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def test_fault_13_each_of_200_flipped_bits_is_named(little, flip_byte):
    kinds, draws = files_by_kind(little), random.Random(0)
    assert set(kinds) >= KINDS
    folders = {entry.folder: entry for entry in entries(little)}
    for _ in range(FLIPS):
        path = draws.choice(kinds[draws.choice(sorted(kinds))])
        entry = folders[next(place for place in path.parents if place in folders)]
        if path.name == "weights.h5":
            own(path)
        whole, position, bit = path.read_bytes(), draws.randrange(path.stat().st_size), draws.randrange(8)
        flip_byte(path, position, mask=1 << bit)
        named = [damage.path for damage in damages(little, _again(little, entry))]
        if path in (entry.folder / name for name in (MANIFEST, *entry.manifest.files)):
            assert named == [path], (path, position, bit)
        else:  # a note or costs beside shards: what is not as it was written is not taken
            assert _is_refused_or_the_same(path, whole), (path, position, bit)
        path.write_bytes(whole)


def _again(data: Path, entry):
    """Return an entry as it would be found now."""
    return next(one for one in entries(data) if one.folder == entry.folder)


def _is_refused_or_the_same(path: Path, whole: bytes) -> bool:
    before = path.with_name("before.json")
    before.write_bytes(whole)
    wanted = read_sealed(before)
    before.unlink()
    try:
        found = read_sealed(path)
    except DamagedFile:
        return True
    return {name: found.get(name) for name in wanted} == wanted


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fault_13_what_flipped_is_put_aside_and_made_again_and_nothing_else_is_touched(
    little, headstart, flip_byte
):
    command = ("run", "--preset", LITTLE.name, "--precision", "float32")
    report = little / "reports" / LITTLE.name
    wanted, predictions = _results(report), sha256_of(next(little.glob("runs/*/predictions.h5")))
    kinds = files_by_kind(little)
    flipped = [own(paths[0]) for kind, paths in sorted(kinds.items()) if kind != ".json"]
    before = {path: path.stat().st_mtime_ns for paths in kinds.values() for path in paths}
    for path in flipped:
        flip_byte(path)
    damaged = {path: path.read_bytes() for path in flipped}
    code, output, _ = headstart("verify", "--sample", "0", "--repair")
    assert all(str(path.relative_to(little)) in output for path in flipped)
    aside = {path.name: path.read_bytes() for path in little.glob("quarantine/**/*") if path.is_file()}
    assert all(aside[path.name] == content for path, content in damaged.items())
    code, _, _ = headstart(*command)
    assert code == 0
    assert headstart("verify", "--sample", "0")[0] == 0
    pd.testing.assert_frame_equal(_results(report), wanted)
    assert sha256_of(next(little.glob("runs/*/predictions.h5"))) == predictions
    touched = {path.parent for path in flipped}
    for path, changed in before.items():
        if not any(place in touched for place in path.parents) and "reports" not in path.parts:
            assert path.stat().st_mtime_ns == changed, path


def _results(report: Path) -> pd.DataFrame:
    return pd.read_csv(report / "comparison.csv").drop(columns=list(COSTS))
