"""Sweeps and tuned heads on a hundred digits, from the data set to the comparison."""

from __future__ import annotations

import csv
import json
import shutil

import luigi
import pandas as pd
import pytest
from small_graphs import build, hits_of

from pipeline.recipes.presets import PRESETS, Plan, Preset
from pipeline.runs.result import read_run
from pipeline.storage.publishing import read_manifest
from tasks import CompareSchemes, ScoreRun, TrainTunedHead, TuneHead

LUIGI = ("-m", "luigi", "--module", "tasks")
LITTLE = {"dataset": "digits", "subset": 100, "weights": "random", "precision": "float32"}
SPACE = {"alpha": [1, 1000], "layers": ["block1_pool", "block2_pool", "block1_pool,block2_pool"]}
TUNED = Preset(
    name="tuned",
    title="A head and a tuned head on a hundred digits",
    dataset="digits",
    subset=100,
    weights="random",
    seeds=(0,),
    plans=(
        Plan("head:ridge", {"layers": ["block1_pool"]}),
        Plan("tuned-head:ridge", {"space": SPACE}),
    ),
)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """The data folder of a finished `tuned` comparison, which tests copy and do not change."""
    folder = tmp_path_factory.mktemp("tuned") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_DATA_DIR", str(folder))
        patch.setitem(PRESETS, TUNED.name, TUNED)
        luigi.task_register.Register.clear_instance_cache()
        assert build(CompareSchemes(preset=TUNED.name, precision="float32"))
    return folder


@pytest.fixture
def comparison(made_once, data_folder, monkeypatch) -> CompareSchemes:
    """The finished comparison in the test's data folder."""
    shutil.copytree(made_once, data_folder)
    monkeypatch.setitem(PRESETS, TUNED.name, TUNED)
    luigi.task_register.Register.clear_instance_cache()
    return CompareSchemes(preset=TUNED.name, precision="float32")


def stamps(folder) -> dict:
    """Return when each file in a folder was last written, without locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_a_sweep_publishes_its_table_plot_and_choice(comparison, data_folder):
    sweep = TuneHead(recipe="ridge", space=SPACE, **LITTLE)
    assert sweep.complete()
    assert [path.name for path in (data_folder / "sweeps").iterdir()] == [sweep.folder.name]
    assert sweep.folder.name.startswith("head-ridge-digits-100-random-")
    assert set(read_manifest(sweep.folder).files) == {"sweep.csv", "sweep.png", "choice.json"}
    with (sweep.folder / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    choice = json.loads((sweep.folder / "choice.json").read_text())
    assert float(rows[0]["alpha"]) == choice["settings"]["alpha"]


@pytest.mark.slow
def test_a_tuned_head_is_in_the_comparison(comparison):
    with (comparison.folder / "comparison.csv").open(newline="") as file:
        plain, tuned = csv.DictReader(file)
    assert (plain["scheme"], tuned["scheme"]) == ("head:ridge", "tuned-head:ridge")
    score, _ = comparison.results[1]
    run = read_run(score.run_task.folder)
    assert run.recipe["settings"]["fit_on"] == "train+val"
    assert (run.recipe["n_val"], len(run.split("val").labels)) == (0, 0)
    assert run.costs["tune_seconds"] > 0
    right, n = hits_of(run.folder)
    metrics = pd.read_csv(score.folder / "metrics.csv", index_col=["split", "class", "metric"])["value"]
    assert metrics["test", "(all)", "accuracy"] == pytest.approx(right / n)
    assert float(tuned["accuracy"]) == pytest.approx(right / n)


@pytest.mark.slow
def test_finished_tasks_are_not_computed_again(comparison, data_folder):
    before = stamps(data_folder)
    settings = {"space": SPACE}
    tasks = [
        TuneHead(recipe="ridge", space=SPACE, **LITTLE),
        TrainTunedHead(recipe="ridge", space=SPACE, **LITTLE),
        ScoreRun(scheme="tuned-head:ridge", settings=settings, **LITTLE),
    ]
    assert all(task.complete() for task in tasks)
    assert build(comparison, *tasks)
    assert stamps(data_folder) == before


@pytest.mark.slow
def test_a_deleted_sweep_does_not_make_its_run_stale(comparison, data_folder):
    run = TrainTunedHead(recipe="ridge", space=SPACE, **LITTLE)
    shutil.rmtree(run.sweep_task.folder)
    assert run.complete()
    assert not run.sweep_task.complete()


def test_equal_spaces_are_one_sweep_and_different_spaces_are_not():
    one = TuneHead(recipe="ridge", space={"alpha": [1, 10]}, **LITTLE)
    assert TuneHead(recipe="ridge", space={"alpha": (1.0, 10.0, 1)}, **LITTLE).folder == one.folder
    assert TuneHead(recipe="ridge", space={"alpha": [10, 1]}, **LITTLE).folder != one.folder
    assert TuneHead(recipe="ridge", **LITTLE).folder != one.folder


def test_precision_and_seed_are_in_the_key_only_if_they_can_change_the_result():
    shared = {**LITTLE, "layers": ("block1_pool",)}
    half = {**shared, "precision": "bfloat16"}
    closed, network = (TuneHead(recipe=name, **half).fingerprint["precision"] for name in ("ridge", "linear"))
    assert (closed, network) == ("float32", "bfloat16")
    first, second = (TrainTunedHead(recipe="ridge", seed=seed, **shared) for seed in (0, 1))
    assert first.folder != second.folder
    assert first.sweep_task.folder == second.sweep_task.folder


def test_a_sweep_requires_the_features_of_all_layers_that_it_tries():
    sweep = TuneHead(recipe="ridge", space=SPACE, **LITTLE)
    run = TrainTunedHead(recipe="ridge", space=SPACE, **LITTLE)
    assert sweep.features_task.layers == run.features_task.layers == "block1_pool,block2_pool"
    assert sweep.features_task.folder == run.features_task.folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["TuneHead", "--space", "{"],
            '--space: expected a JSON object such as {"alpha": [1, 10]}, received',
        ),
        (["TuneHead", "--space", "[1]"], "--space: expected a JSON object"),
        (["TuneHead", "--recipe", "ridge", "--space", '{"alpha": 3}'], "expected a list of values for alpha"),
        (
            ["TrainTunedHead", "--recipe", "ridge", "--space", '{"c": [1]}'],
            "unknown setting 'c' for RidgeHead",
        ),
        (["TuneHead", "--space", '{"layers": ["block9_pool"]}'], "block9_pool"),
        (["TuneHead", "--recipe", "knn", "--c", "1"], "unknown setting 'c' for NeighborsHead"),
        (
            ["ScoreRun", "--scheme", "head:ridge", "--settings", '{"space": {"alpha": [1]}}'],
            "unknown setting 'space' for RidgeHead",
        ),
        (
            ["TrainHead", "--recipe", "svm", "--fit-on", "train+val"],
            "svm: expected a temperature with fit_on=train+val",
        ),
    ],
)
def test_a_bad_space_gets_one_clear_line_and_exit_code_2(call, arguments, message):
    done = call(*LUIGI, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
