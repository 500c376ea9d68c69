"""Planning loads no numerical library, and every function that the graph names exists."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from pipeline.backbones.engines import ENGINES
from pipeline.extensions import resolve
from pipeline.networks.build import LAYERS
from pipeline.notation import WORDS
from pipeline.recipes import base
from pipeline.recipes.heads import HEADS
from pipeline.report.table import FINDINGS
from pipeline.training import optimizers, weight_copies
from tasks import FineTune, TrainFromScratch, TrainHead, TrainTunedHead

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "h5py", "pandas", "sklearn", "matplotlib", "numpy")


def test_importing_tasks_loads_no_numerical_library(call):
    code = f"import tasks, sys; sys.exit(str([n for n in {HEAVY} if n in sys.modules]).strip('[]') or 0)"
    done = call("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_graph_is_planned_without_a_numerical_library(call):
    code = (
        "import sys; from tasks import CompareSchemes\n"
        "def walk(task):\n"
        "    task.complete()\n"
        "    [walk(dependency) for dependency in task.deps()]\n"
        "walk(CompareSchemes(preset='full'))\n"
        f"sys.exit(str([n for n in {HEAVY} if n in sys.modules]).strip('[]') or 0)"
    )
    done = call("-c", code)
    assert done.returncode == 0, done.stderr


def test_every_function_that_the_graph_names_exists():
    text = "\n".join(
        path.read_text() for folder in ("pipeline", "tasks") for path in (ROOT / folder).rglob("*.py")
    )
    names = set(re.findall(r'"((?:pipeline|tasks)(?:\.\w+)+:\w+)"', text))
    modules = set(re.findall(r'"(pipeline(?:\.\w+)+)"', text))
    assert {"pipeline.runs.train:train_run", "pipeline.features.extract:extract"} <= names
    assert len(names) > 30
    missing = {engine.forward.partition(":")[0] for engine in ENGINES.values() if not engine.is_installed}
    checked = [name for name in names if name.partition(":")[0] not in missing]
    assert [name for name in checked if not callable(resolve(name))] == []
    assert [name for name in modules if importlib.import_module(name) is None] == []


@pytest.mark.parametrize("task", [TrainHead, TrainTunedHead, FineTune, TrainFromScratch])
def test_a_class_weight_is_in_keys_only_if_it_is_not_the_default(task):
    plain, balanced = task(dataset="digits"), task(dataset="digits", class_weights="balanced")
    assert "class_weights" not in json.dumps([plain.fingerprint, plain.spec.settings])
    assert balanced.spec.load_recipe().class_weights == balanced.spec.settings["class_weights"] == "balanced"
    assert (
        task(dataset="digits", class_weights="none").fingerprint == plain.fingerprint != balanced.fingerprint
    )
    if hasattr(balanced, "sweep_task"):
        assert balanced.sweep_task.fingerprint["settings"]["class_weights"] == "balanced"


def test_names_in_recipes_match_the_tables_that_load_tensorflow():
    assert set(base.OPTIMIZERS) == set(optimizers.OPTIMIZERS)
    assert set(base.SCHEDULES) == set(optimizers.SCHEDULES)
    assert set(base.AVERAGES) == set(weight_copies.AVERAGES)
    assert set(WORDS) == set(LAYERS)


def test_modules_of_heads_and_findings_have_the_required_functions():
    for head in HEADS.values():
        assert all(callable(resolve(f"{head.module}:{name}")) for name in ("fit", "predict_logits"))
    for finding in FINDINGS.values():
        assert all(callable(resolve(f"{finding.module}:{name}")) for name in ("find", "summary"))
