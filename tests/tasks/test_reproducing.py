"""The command stored with a run reproduces exactly this run."""

from __future__ import annotations

import json
import shlex

import luigi
import pytest

import tasks
from tasks.commands.main import parser_for
from tasks.commands.options import task_of
from tasks.reproducing import command_of_run, dataset_folders

PLACES = {"dataset": "digits", "weights": "random"}


def recipe_of(task) -> dict:
    """Return the parts of a run's recipe.json that the command depends on."""
    fingerprint = task.fingerprint
    return {
        "scheme": fingerprint["scheme"],
        "seed": task.seed,
        "precision": fingerprint["precision"],
        "backbone": getattr(task, "backbone", "none"),
        "fingerprint": fingerprint,
    }


@pytest.mark.parametrize(
    ("name", "parameters"),
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
def test_the_command_of_a_run_reproduces_that_run(name, parameters):
    task = getattr(tasks, name)(**parameters)
    command = shlex.split(command_of_run(recipe_of(task)))
    options = parser_for(command[1:]).parse_args(command[1:])
    again = task_of(getattr(tasks, name), options)
    luigi.task_register.Register.clear_instance_cache()
    assert again.fingerprint == task.fingerprint and again.folder == task.folder


def test_the_command_of_a_run_omits_defaults():
    task = tasks.TrainHead(**PLACES)
    line = command_of_run(recipe_of(task))
    assert line.startswith("headstart train head --recipe linear --dataset digits --weights random")
    assert "--epochs" not in line and "--seed" not in line


@pytest.mark.parametrize("scheme", ["head:gone", "another:linear"])
def test_a_run_of_an_unknown_scheme_or_recipe_has_no_command(scheme):
    recipe = recipe_of(tasks.TrainHead(**PLACES))
    assert command_of_run({**recipe, "fingerprint": {**recipe["fingerprint"], "scheme": scheme}}) == ""


def test_a_run_with_weights_from_an_unknown_source_has_no_command():
    recipe = recipe_of(tasks.TrainHead(**PLACES))
    features = recipe["fingerprint"]["features"]
    features = {**features, "weights": "arrays:another"}
    assert command_of_run({**recipe, "fingerprint": {**recipe["fingerprint"], "features": features}}) == ""


def test_missing_data_sets_are_left_out(little):
    (run,) = little.glob("runs/*/recipe.json")
    recipe = json.loads(run.read_text())
    (folder,) = dataset_folders(little, [recipe, {"fingerprint": {}}]).values()
    assert folder.parent == little / "datasets"
    assert dataset_folders(little / "nowhere", [recipe]) == {}
