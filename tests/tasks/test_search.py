"""A search ends in a named recipe, resumes after a kill, and rejects invalid parameters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import luigi
import pandas as pd
import pytest
from small_graphs import ROOT, build

from pipeline.errors import BadInput
from pipeline.runs.result import read_run
from pipeline.tuning.study import finished_trials, open_study
from tasks import TrainFromScratch, TuneFineTune, TuneFromScratch

DIGITS = {"dataset": "digits", "subset": 200, "precision": "float32"}
SMALL = {"filters": (4,), "units": (8,), "epochs": 2, "batch_size": 16, "conv_blocks": "conv - maxpool"}
SPACE = {
    **dict.fromkeys(("weight_decay", "batch_size", "label_smoothing", "conv_blocks", "filters"), ()),
    **dict.fromkeys(("dropout", "dense_blocks", "dense_dropout"), ()),
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
}
SMALL_SEARCH = {**DIGITS, **SMALL, "space": SPACE}


def again(task: luigi.Task, **changes) -> luigi.Task:
    luigi.task_register.Register.clear_instance_cache()
    return type(task)(**{**task.param_kwargs, **changes})


@pytest.mark.slow
def test_a_search_saves_a_recipe_that_can_be_trained_by_name(data_folder):
    task = TuneFromScratch(trials=3, confirmations=1, name="mine", **SMALL_SEARCH)
    assert build(task)
    table = pd.read_csv(task.folder / "trials.csv")
    assert len(table) == 3
    assert {path.name for path in task.folder.glob("*.png")} == {
        "history.png",
        "importance.png",
        "settings.png",
    }
    choice = json.loads((task.folder / "choice.json").read_text())
    assert choice["val_accuracy"] == table["val_accuracy"].max()
    assert choice["again"]["seeds"] == [1]
    run = TrainFromScratch(recipe="mine", **DIGITS)
    assert build(run)
    recipe = read_run(run.folder).recipe
    assert recipe["scheme"] == "from-scratch:mine"
    assert recipe["settings"]["learning_rate"] == choice["settings"]["learning_rate"]
    assert recipe["settings"]["filters"] == [4]
    before = {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}
    assert build(again(task))
    assert before == {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}
    more = again(task, trials=4)
    assert not more.complete()
    assert more.folder == task.folder
    assert build(more)
    assert len(pd.read_csv(more.folder / "trials.csv")) == 4
    (data_folder / "recipes" / "mine" / "recipe.json").unlink()
    assert not again(more).complete()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_killed_search_resumes_with_its_finished_trials(tmp_path, data_folder):
    space = json.dumps(SPACE)
    options = ["--dataset", "digits", "--subset", "200", "--precision", "float32", "--trials", "3"]
    options += ["--filters", "4", "--units", "8", "--epochs", "2", "--batch-size", "16", "--space", space]
    options += ["--conv-blocks", "conv - maxpool", "--confirmations", "0", "--name", "mine"]
    master = subprocess.Popen(
        [sys.executable, "-m", "luigi", "--module", "tasks", "TuneFromScratch", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    task = TuneFromScratch(trials=3, confirmations=0, name="mine", **SMALL_SEARCH)
    wait_for(lambda: count_trials(task.folder / "study.log") >= 1)
    master.send_signal(signal.SIGKILL)
    master.wait()
    done = count_trials(task.folder / "study.log")
    assert 1 <= done < 3
    assert build(task)
    assert len(pd.read_csv(task.folder / "trials.csv")) == 3


def count_trials(path: Path) -> int:
    return len(finished_trials(open_study(path))) if path.exists() else 0


def wait_for(holds, seconds: float = 100) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_search_of_fine_tuning_settings_runs_all_trials(data_folder):
    space = {**dict.fromkeys(("weight_decay", "label_smoothing", "dense_blocks", "units"), ())}
    space |= {"dropout": (), "freeze_through": (), "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}
    task = TuneFineTune(
        recipe="block5", weights="random", trials=2, confirmations=0, space=space, epochs=1, top_epochs=1,
        units=(8,), **{**DIGITS, "subset": 100},
    )  # fmt: skip
    assert build(task)
    assert len(pd.read_csv(task.folder / "trials.csv")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0, "minutes": 0}, "expected --trials or --minutes of 1 or more"),
        ({"fit_on": "train+val"}, "fit_on: expected train, because trials are scored on val"),
        ({"name": "fast"}, "already a built-in from-scratch recipe"),
        ({"name": "a/b"}, "expected at most 100 letters"),
        ({"space": {"learning_rate": 1}}, "space of lesson: expected"),
        ({"recipe": "nobody"}, "unknown from-scratch recipe 'nobody'"),
    ],
)
def test_an_invalid_search_is_rejected_before_it_starts(changes, message):
    with pytest.raises(BadInput, match=message):
        TuneFromScratch(**{**DIGITS, **changes})


def test_more_trials_continue_a_study_and_another_space_or_seed_starts_a_new_one():
    base = TuneFromScratch(**DIGITS)
    assert base.folder == TuneFromScratch(trials=50, minutes=3, confirmations=0, name="x", **DIGITS).folder
    assert base.folder != TuneFromScratch(seed=1, **DIGITS).folder
    assert base.folder != TuneFromScratch(space={"dropout": []}, **DIGITS).folder
    assert base.choice_name == "tuned-lesson-digits-200"
