"""Helpers that run tasks in tests, and a comparison that takes seconds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import luigi
import pytest

from pipeline.recipes.presets import PRESETS, Plan, Preset
from pipeline.runs.result import read_run
from tasks import CompareSchemes, ExtractFeatures

ROOT = Path(__file__).resolve().parents[2]
LITTLE = Preset(
    name="little",
    title="A linear head on the first layer of a hundred digits",
    dataset="digits",
    subset=100,
    weights="random",
    seeds=(0,),
    plans=(Plan("head:linear", {"epochs": 2, "layers": ["block1_pool"]}),),
)


def build(*tasks: luigi.Task, workers: int = 1) -> bool:
    """Run tasks with the local scheduler and return whether all are complete."""
    luigi.build(list(tasks), local_scheduler=True, workers=workers, log_level="WARNING")
    return all(task.complete() for task in tasks)


def hits_of(folder: Path) -> tuple[int, int]:
    """Return the number of test images that a stored run classified correctly, and their total."""
    test = read_run(folder).split("test")
    return int((test.probabilities.argmax(axis=1) == test.labels).sum()), len(test.labels)


def make_little(folder: Path) -> None:
    """Make a finished `little` comparison in a data folder, and maps in two shards that no preset uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_DATA_DIR", str(folder))
        patch.setitem(PRESETS, LITTLE.name, LITTLE)
        luigi.task_register.Register.clear_instance_cache()
        maps = {"dataset": "digits", "subset": 200, "weights": "random", "precision": "float32"}
        assert build(
            CompareSchemes(preset=LITTLE.name, precision="float32"),
            ExtractFeatures(layers="block1_pool,block2_pool", pooling="none", **maps),
        )


def link_weights(source: str, target: str) -> None:
    """Copy a file, or link it if it holds weights, which are large."""
    (os.link if source.endswith("weights.h5") else shutil.copy2)(source, target)
