"""Fixtures of the graph's tests: a data folder of one's own, and the commands as users call them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import luigi
import pytest

from pipeline.presets import PRESETS, Plan, Preset
from tasks import CompareSchemes, ExtractFeatures
from tasks.command import main

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


LITTLE = Preset(
    name="little",
    title="A linear head on the first layer of a hundred digits",
    dataset="digits",
    subset=100,
    weights="random",
    seeds=(0,),
    plans=(Plan("head:linear", {"epochs": 2, "layers": ["block1_pool"]}),),
)


@pytest.fixture(scope="session")
def made_little(tmp_path_factory) -> Path:
    """The data folder of a finished `little` comparison and of maps in two shards that no preset wants."""
    folder = tmp_path_factory.mktemp("little") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_DATA_DIR", str(folder))
        patch.setitem(PRESETS, LITTLE.name, LITTLE)
        luigi.task_register.Register.clear_instance_cache()
        maps = {"dataset": "digits", "subset": 200, "weights": "random", "precision": "float32"}
        assert build(
            CompareSchemes(preset=LITTLE.name, precision="float32"),
            ExtractFeatures(layers="block1_pool,block2_pool", pooling="none", **maps),
        )
    return folder


def link_weights(source: str, target: str) -> None:
    """Copy a file, or link it when it holds weights, which are large."""
    (os.link if source.endswith("weights.h5") else shutil.copy2)(source, target)


@pytest.fixture
def little(made_little, data_folder, monkeypatch) -> Path:
    """A copy of that data folder, to change and to damage; the preset is known.

    The weights are linked, for speed: a test that damages them unlinks them first.
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
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
