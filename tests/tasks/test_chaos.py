"""`make chaos` notices what differs, and a graph that is killed and damaged ends with the same results."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_graphs import ROOT

BENCHMARKS = ROOT / "benchmarks"
KINDS = {".h5", ".npy", ".keras", ".json", ".csv", ".png"}
ROUNDS = 2


@pytest.fixture
def chaos(monkeypatch):
    """The module of the benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import chaos

    return chaos


@pytest.mark.slow
def test_a_flipped_bit_of_any_result_is_a_loss_or_a_difference(little, chaos, flip_byte):
    before = chaos.digests(little)
    assert {Path(name).suffix for name, digest in before.items() if digest != chaos.EXISTS} >= KINDS
    assert chaos.damaged(little) == []
    for name in random.Random(0).sample(sorted(before), 20):
        path = little / name
        content = path.read_bytes()
        path.unlink()  # weights are links
        path.write_bytes(content)
        flip_byte(path)
        lost = {line.partition(":")[0] for line in chaos.damaged(little)}
        assert {*lost, *chaos.compare(before, chaos.digests(little))} == {name}
        path.write_bytes(content)


def test_missing_and_additional_files_are_differences(little, chaos):
    before = chaos.digests(little)
    gone = next(little.glob("runs/*/predictions.h5"))
    gone.rename(gone.with_name(".predictions.scratch-host_1-0.h5"))
    names = sorted(path.relative_to(little).as_posix() for path in (gone, *gone.parent.glob(".*.h5")))
    assert sorted(chaos.compare(before, chaos.digests(little))) == names


def test_measured_seconds_are_not_compared(little, chaos):
    before = chaos.digests(little)
    history = next(little.glob("runs/*/history.csv"))
    header, *rows = history.read_text().splitlines()
    assert header.endswith(",seconds")
    history.write_text("\n".join([header, *(row.rpartition(",")[0] + ",99.5" for row in rows)]) + "\n")
    assert chaos.compare(before, chaos.digests(little)) == []
    history.write_text(history.read_text().replace(",2,", ",3,", 1))
    assert chaos.compare(before, chaos.digests(little)) == [history.relative_to(little).as_posix()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_two_rounds_of_chaos_lose_nothing_and_are_resumed(tmp_path):
    folder = tmp_path / "chaos"
    command = [sys.executable, str(BENCHMARKS / "chaos.py"), "--folder", str(folder), "--seed", "1"]
    rows = []
    for rounds in (1, ROUNDS):
        done = subprocess.run(
            [*command, "--rounds", str(rounds)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"^round (\d+) of", done.stdout, flags=re.MULTILINE) == [str(rounds)]
        rows = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
        assert [row["round"] for row in rows] == list(range(1, rounds + 1))
    assert all(row["disturbances"] for row in rows)
    for fault in ("lost", "differing", "left_over_files"):
        assert [row[fault] for row in rows] == [[], []]
    assert "| all |" in done.stdout
