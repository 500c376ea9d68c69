"""Fixtures of the graph's tests: a data folder for each test, and the commands as users call them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import luigi
import pytest
from small_graphs import LITTLE, ROOT, link_weights, make_little

from pipeline.recipes.presets import PRESETS
from tasks.commands.main import main


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """An empty data folder, with Luigi's cache of task instances cleared."""
    folder = tmp_path / "data"
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(folder))
    luigi.task_register.Register.clear_instance_cache()
    yield folder
    luigi.task_register.Register.clear_instance_cache()


@pytest.fixture
def call(tmp_path):
    """Run Python with arguments in an empty folder; return its finished process.

    The project comes first on PYTHONPATH unless that names its place itself.
    """

    def run(*arguments: str, timeout: float = 90, **environment: str):
        paths = [path for path in environment.pop("PYTHONPATH", "").split(os.pathsep) if path]
        paths = paths if str(ROOT) in paths else [str(ROOT), *paths]
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def made_little(made_once) -> Path:
    """The data folder of a finished `little` comparison, and of maps in two shards that no preset uses."""
    return made_once("little", make_little)


@pytest.fixture
def little(made_little, data_folder, monkeypatch) -> Path:
    """A copy of that data folder for a test to change or damage; the preset is registered.

    The weights are hard links, for speed: a test that damages them must unlink them first.
    """
    shutil.copytree(made_little, data_folder, copy_function=link_weights)
    monkeypatch.setitem(PRESETS, LITTLE.name, LITTLE)
    return data_folder


@pytest.fixture
def headstart(capsys):
    """Run the console command in this process; return its exit code, its output and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        luigi.task_register.Register.clear_instance_cache()
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
