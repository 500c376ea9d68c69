"""The benchmark of input sizes runs what fits into its budget, resumes, and says what it did not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("--dataset", "digits", "--subset", "300", "--weights", "random", "--sizes", "32,48")


def resolution(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/resolution.py", *SMALL, "--schemes", "linear,top", *arguments]
    environment = {**os.environ, "HEADSTART_DATA_DIR": str(data)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_cells_within_the_budget_are_run_and_the_others_are_marked(tmp_path):
    planned = resolution(tmp_path, "--plan")
    assert planned.stderr.count("about") == 4
    assert "no cell has been run yet" in planned.stderr
    resolution(tmp_path, "--budget", "0")
    assert not (tmp_path / "runs").exists()
    resolution(tmp_path, "--sizes", "32", "--schemes", "linear")
    resolution(tmp_path, "--plan")
    folder = tmp_path / "reports" / "resolution"
    table = pd.read_csv(folder / "resolution.csv")
    assert table[["cell", "input_size"]].values.tolist() == [["linear", 32]]
    assert (table["bytes"] > 0).all()
    assert (folder / "resolution.md").read_text().count("not run") == 3
    assert (folder / "resolution.png").stat().st_size > 10_000
    again = resolution(tmp_path, "--plan")
    assert "linear head at 32 px: done" in again.stderr
