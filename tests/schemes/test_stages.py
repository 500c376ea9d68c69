"""The training settings of a recipe reach the stages that its scheme builds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipeline.heads import network
from pipeline.heads.data import HeadData
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES, top_head
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.heads import HEADS
from pipeline.recipes.settings import fields_of, override
from pipeline.schemes.fine_tune import stages_of
from pipeline.training import loop
from pipeline.training.history import History
from pipeline.training.stage import Stage

IN_A_STAGE = {field.name for field in dataclasses.fields(Stage)} - {"name", "salt", "epochs_per_row"}
RECIPES = {
    "from-scratch": SCRATCH_RECIPES["lesson"],
    "fine-tune": FINE_TUNE_RECIPES["whole"],
    "head": HEADS["linear"],
    "top": top_head(FINE_TUNE_RECIPES["whole"], "block5_pool"),
}
CASES = [
    pytest.param(scheme, name, id=f"{scheme}-{name}")
    for scheme, recipe in RECIPES.items()
    for name in fields_of(recipe)
    if name in IN_A_STAGE
]


class Stopped(Exception):
    """Stops training before it starts, and contains its stage."""


@pytest.fixture
def last_stage(toy, monkeypatch):
    """Return a function that returns the last stage that a scheme builds from a recipe."""

    def stop(stage: Stage, *_, **__):
        raise Stopped(stage)

    def build(scheme: str, recipe: Any) -> Stage:
        if scheme == "from-scratch":
            return Stage.of(recipe, "blocks", epochs=recipe.epochs)
        if scheme == "fine-tune":
            return [stage for stage, _ in stages_of(recipe, 5, recipe.epochs)][-1]
        monkeypatch.setattr(loop, "make_optimizer", stop)
        with pytest.raises(Stopped) as stopped:
            network.fit(recipe, HeadData(toy), seed=0, history=History())
        return stopped.value.args[0]

    return build


def another_value(recipe: Any, name: str) -> Any:
    """Return a valid value of a setting that is not the default of Stage."""
    value, limits = getattr(recipe, name), fields_of(recipe)[name].metadata
    default = getattr(Stage, name, value)
    if isinstance(value, bool):
        return not default
    if limits["choices"]:
        return next(choice for choice in limits["choices"] if choice != default)
    return type(value)((limits["low"] + limits["high"]) / 2)


@pytest.mark.parametrize(("scheme", "name"), CASES)
def test_each_setting_reaches_the_stage_under_the_same_name(last_stage, scheme, name):
    recipe = RECIPES[scheme]
    value = another_value(recipe, name)
    assert value != getattr(Stage, name, None)
    assert getattr(last_stage(scheme, override(recipe, {name: value})), name) == value


def test_each_field_of_a_stage_is_a_setting_of_some_recipe():
    assert {name for recipe in RECIPES.values() for name in fields_of(recipe)} >= IN_A_STAGE
    assert {name for scheme, name in (case.values for case in CASES) if scheme == "head"} == {
        *("epochs", "batch_size", "learning_rate", "optimizer"),
        *("lr_schedule", "warmup", "weight_decay", "label_smoothing"),
    }


def test_gradual_unfreezing_uses_the_same_settings_in_every_stage():
    recipe = override(
        FINE_TUNE_RECIPES["gradual"], {"shift": 7, "learning_rate": 0.5, "averaging": "lookahead"}
    )
    stages = [stage for stage, _ in stages_of(recipe, 5, recipe.epochs)]
    assert len(stages) == 5
    settings = {(stage.shift, stage.learning_rate, stage.averaging) for stage in stages}
    assert settings == {(7, 0.5, "lookahead")}
    assert len({stage.salt for stage in stages}) == 5
