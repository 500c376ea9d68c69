"""A run says by which command it is made again, and that command makes this very run."""

from __future__ import annotations

import json
import shlex

import luigi
import pytest
from luigi.cmdline_parser import CmdlineParser

import tasks
from tasks.reproducing import command_of, dataset_folders

PLACES = {"dataset": "digits", "weights": "random"}


def recipe_of(task) -> dict:
    """Return what a run of a task stores of itself, as far as the command follows from it."""
    found = task.fingerprint
    return {
        "scheme": found["scheme"],
        "seed": task.seed,
        "precision": found["precision"],
        "backbone": getattr(task, "backbone", "none"),
        "fingerprint": found,
    }


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("TrainHead", {**PLACES, "recipe": "linear"}),
        ("TrainHead", {**PLACES, "recipe": "dense", "layers": ("block4_pool", "block5_pool"), "seed": 3}),
        ("TrainHead", {**PLACES, "recipe": "linear", "backbone": "vgg19", "epochs": 7, "subset": 200}),
        ("TrainTunedHead", {**PLACES, "recipe": "linear", "views": ("identity", "hflip")}),
        ("FineTune", {**PLACES, "recipe": "block5", "learning_rate": 1e-4, "split_seed": 5}),
        ("FineTune", {**PLACES, "weights": "random:7", "recipe": "whole", "precision": "float32"}),
        ("TrainFromScratch", {"dataset": "digits", "recipe": "lesson", "filters": (8, 16), "flip": False}),
        (
            "TrainFromScratch",
            {"dataset": "cifar10", "recipe": "fast", "conv_blocks": "conv - maxpool"},
        ),
    ],
)
def test_command_of_a_run_makes_that_run(name, given):
    task = getattr(tasks, name)(**given)
    line = command_of(recipe_of(task))
    words = shlex.split(line)
    assert words[:4] == ["luigi", "--module", "tasks", name]
    with CmdlineParser.global_instance(words[1:]) as parser:
        again = parser.get_task_obj()
    luigi.task_register.Register.clear_instance_cache()
    assert again.fingerprint == task.fingerprint and again.folder == task.folder


def test_command_leaves_out_what_is_as_usual():
    task = tasks.TrainHead(**PLACES)
    line = command_of(recipe_of(task))
    assert line.startswith("luigi --module tasks TrainHead --recipe linear --dataset digits --weights random")
    assert "--epochs" not in line and "--seed" not in line


@pytest.mark.parametrize("scheme", ["head:gone", "another:linear"])
def test_a_scheme_that_is_no_longer_known_has_no_command(scheme):
    recipe = recipe_of(tasks.TrainHead(**PLACES))
    assert command_of({**recipe, "fingerprint": {**recipe["fingerprint"], "scheme": scheme}}) == ""


def test_weights_whose_place_is_not_known_have_no_command():
    recipe = recipe_of(tasks.TrainHead(**PLACES))
    features = recipe["fingerprint"]["features"]
    features = {**features, "weights": {"name": "random", "identity": "sha256:another"}}
    assert command_of({**recipe, "fingerprint": {**recipe["fingerprint"], "features": features}}) == ""


def test_data_sets_are_found_where_they_are_and_left_out_where_they_are_not(little):
    (run,) = little.glob("runs/*/recipe.json")
    recipe = json.loads(run.read_text())
    (found,) = dataset_folders(little, [recipe, {"fingerprint": {}}]).values()
    assert found.parent == little / "datasets"
    assert dataset_folders(little / "nowhere", [recipe]) == {}
