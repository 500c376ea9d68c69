"""Synthetic runs, of which each test makes its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import finish, write_run

from pipeline.results.run import read_run


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a run folder under tmp_path and reads it back."""

    def make(name="run", **changes):
        return read_run(write_run(tmp_path / name, **changes))

    return make


@pytest.fixture
def run_folder(tmp_path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def refinish():
    return finish
