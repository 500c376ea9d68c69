"""Fixtures of the graph's tests: a data folder of one's own, and the commands as users call them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import luigi
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """An empty data folder, and no memory of tasks that other tests made."""
    folder = tmp_path / "data"
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(folder))
    luigi.task_register.Register.clear_instance_cache()
    yield folder
    luigi.task_register.Register.clear_instance_cache()


@pytest.fixture
def call(tmp_path):
    """Run Python with arguments in an empty folder; return its finished process."""

    def run(*arguments: str, timeout: float = 90, **environment: str):
        paths = [str(ROOT), *filter(None, [environment.pop("PYTHONPATH", "")])]
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


def build(*tasks: luigi.Task, workers: int = 1) -> bool:
    """Run tasks with the local scheduler; say whether all are complete."""
    luigi.build(list(tasks), local_scheduler=True, workers=workers, log_level="WARNING")
    return all(task.complete() for task in tasks)
