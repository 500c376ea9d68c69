"""State of the home folder and the environment does not change results under the same key."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_graphs import ROOT
from trees import only

from pipeline.features.sections import base_fingerprint
from pipeline.features.store import FeatureStore
from pipeline.runs.result import read_run
from pipeline.storage.fingerprint import key_of

TRAIN = ("-m", "luigi", "--module", "tasks", "TrainHead", "--dataset", "digits", "--subset", "100")
SETTINGS = (
    "--recipe",
    "linear",
    "--weights",
    "random",
    "--precision",
    "float32",
    "--layers",
    "block1_pool",
    "--epochs",
    "2",
)
LIST_RUNS = ("-m", "tasks.commands.main", "runs")
Change = Callable[[Path], dict[str, str]]  # prepares an empty working directory; returns variables


def variables(**values: str) -> Change:
    return lambda folder: values


def keras_json(**values: object) -> Change:
    """Return a change that sets values in the keras.json of a new home folder."""

    def write(folder: Path) -> dict[str, str]:
        path = folder / "home" / ".keras" / "keras.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        existing = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**existing, **values}))
        return {"HOME": str(folder / "home"), "KERAS_HOME": str(path.parent)}

    return write


def home(name: str) -> Change:
    return lambda folder: {"HOME": str(folder / name)}


def modules_in_working_directory(folder: Path) -> dict[str, str]:
    """Write modules with the names of the project's packages, and of NumPy, that cannot be imported."""
    for name in ("tasks", "pipeline", "numpy"):
        (folder / f"{name}.py").write_text(f"raise ImportError('this is another {name}')\n")
    return {}


def modules_later_on_path(folder: Path) -> dict[str, str]:
    """Write such modules of the packages to a folder that comes after the project's."""
    (folder / "later").mkdir()
    for name in ("tasks", "pipeline"):
        (folder / "later" / f"{name}.py").write_text("")
    return {"PYTHONPATH": str(folder / "later")}


def module_first_on_path(name: str) -> Change:
    def write(folder: Path) -> dict[str, str]:
        (folder / "other").mkdir()
        (folder / "other" / f"{name}.py").write_text("")
        return {"PYTHONPATH": f"{folder / 'other'}:{ROOT}"}

    return write


def luigi_configuration(text: str) -> Change:
    def write(folder: Path) -> dict[str, str]:
        (folder / "user.cfg").write_text(text)
        return {"LUIGI_CONFIG_PATH": str(folder / "user.cfg")}

    return write


SAME: dict[str, Change] = {
    "floatx": keras_json(floatx="float16"),
    "epsilon": keras_json(epsilon=0.1),
    "image_data_format": keras_json(image_data_format="channels_first"),
    "backend": keras_json(backend="jax"),
    "KERAS_BACKEND": variables(KERAS_BACKEND="torch"),
    "TF_USE_LEGACY_KERAS": variables(TF_USE_LEGACY_KERAS="1"),
    "TF_ENABLE_ONEDNN_OPTS": variables(TF_ENABLE_ONEDNN_OPTS="0"),
    "TF_DETERMINISTIC_OPS": variables(TF_DETERMINISTIC_OPS="0"),
    "TF_NUM_INTRAOP_THREADS": variables(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1"),
    "XLA_FLAGS": variables(XLA_FLAGS="--xla_cpu_enable_fast_math=true", TF_XLA_FLAGS="--tf_xla_auto_jit=2"),
    "ONEDNN_MAX_CPU_ISA": variables(ONEDNN_MAX_CPU_ISA="SSE41"),
    "NPY_DISABLE_CPU_FEATURES": variables(NPY_DISABLE_CPU_FEATURES="AVX2 FMA3"),
    "OMP_NUM_THREADS": variables(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1"),
    "PYTHONOPTIMIZE": variables(PYTHONOPTIMIZE="2"),
    "PYTHONHASHSEED": variables(PYTHONHASHSEED="7"),
    "LANG": variables(LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    "a home that does not exist": home("missing"),
    "a home that cannot be written": variables(HOME="/dev/null"),
    "a LUIGI_CONFIG_PATH that does not exist": variables(LUIGI_CONFIG_PATH="/dev/null/luigi.cfg"),
    "modules in the working directory": modules_in_working_directory,
    "modules behind the project's on PYTHONPATH": modules_later_on_path,
}
REFUSED: dict[str, tuple[Change, str]] = {
    "tasks": (module_first_on_path("tasks"), "'tasks' is not a package"),
    "pipeline": (module_first_on_path("pipeline"), "other/pipeline.py is not Headstart's pipeline"),
    "LUIGI_CONFIG_PATH": (luigi_configuration("nonsense"), "Luigi's configuration: File contains no section"),
}


@pytest.fixture
def train(call, tmp_path):
    """Return a function that trains a head after changes, and returns the finished process."""

    def run(*changes: Change) -> subprocess.CompletedProcess:
        environment = {name: value for change in changes for name, value in change(tmp_path).items()}
        # -P as in a console script, whose path lacks the working directory
        return call("-P", *TRAIN, *SETTINGS, **environment)

    return run


def results(data: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the name of a data folder's only run, its probabilities on test, and the features it read."""
    run = read_run(only(data, "runs/*/manifest.json").parent)
    cache = only(data, f"features/*-{key_of(base_fingerprint(run.recipe['fingerprint']['features']))}")
    return run.folder.name, run.split("test").probabilities, FeatureStore(cache).load(["block1_pool"])


def assert_same(data: Path, undisturbed: Path) -> None:
    for value, expected in zip(results(data), results(undisturbed), strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_is_the_same_if_everything_around_it_differs(train, data_folder, made_little):
    done = train(*SAME.values())
    assert done.returncode == 0, done.stderr
    assert_same(data_folder, made_little)


@pytest.mark.slow
@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_a_run_is_the_same_if_one_thing_around_it_differs(train, data_folder, made_little, change):
    done = train(change)
    assert done.returncode == 0, done.stderr
    assert_same(data_folder, made_little)


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_made_the_same_is_refused_in_one_line(call, tmp_path, change, message):
    done = call("-P", *LIST_RUNS, **change(tmp_path))
    assert done.returncode != 0 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_settings_in_luigis_configuration_lead_to_another_key(call, tmp_path, made_little):
    code = """import luigi, tasks
with luigi.cmdline_parser.CmdlineParser.global_instance(SETTINGS) as parser:
    print(parser.get_task_obj().folder.name)"""
    change = luigi_configuration("[TrainHead]\nlearning_rate=0.5\n")
    names = [
        call("-c", code.replace("SETTINGS", repr([*TRAIN[4:], *SETTINGS])), **environment).stdout.strip()
        for environment in ({}, change(tmp_path))
    ]
    assert names[0] == results(made_little)[0]
    assert names[1].rpartition("-")[0] == names[0].rpartition("-")[0] and names[1] != names[0]


def test_optimized_python_changes_no_number_because_assertions_only_narrow_types():
    paths = [ROOT / "headstart.py", *(ROOT / "pipeline").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]
    tests = [
        (path.name, ast.unparse(part))
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
        for part in (node.test.values if isinstance(node.test, ast.BoolOp) else [node.test])
    ]
    assert len(tests) > 10
    assert [test for test in tests if not test[1].endswith(" is not None")] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_export_reproduces_the_run_whatever_the_environment_says(train, call, tmp_path, data_folder):
    assert train().returncode == 0
    environment = {
        name: value
        for row, change in SAME.items()
        if not row.startswith("modules")
        for name, value in change(tmp_path).items()
    }
    export = ("-m", "tasks.commands.main", "export", results(data_folder)[0], "model.keras")
    done = call(*export, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("keras: parity on ")


def test_another_backend_of_keras_is_refused_in_one_line_where_it_is_imported_directly(call):
    pytest.importorskip("torch", reason="without torch, Keras itself refuses")
    code = "import os; os.environ['KERAS_BACKEND'] = 'torch'; import pipeline.use.network"
    done = call("-c", code)
    assert done.returncode and "expected tensorflow, received torch; unset KERAS_BACKEND" in done.stderr
