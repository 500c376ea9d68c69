"""Search spaces: a recipe's own axes can be replaced, and wrong ones are rejected with a message."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import BadInput
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.settings import fields_of, override, parse
from pipeline.recipes.space import Range, checked_axes, plain_axes, read_axes, text_of

LESSON = SCRATCH_RECIPES["lesson"]


@pytest.mark.parametrize(
    "recipe", [*SCRATCH_RECIPES.values(), *FINE_TUNE_RECIPES.values()], ids=lambda r: r.name
)
def test_every_recipe_has_a_valid_space(recipe):
    axes = checked_axes(recipe, {})
    assert axes == recipe.space
    assert read_axes(recipe, json.loads(json.dumps(plain_axes(axes)))) == axes


def test_an_axis_can_be_replaced_added_or_removed():
    space = {
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "filters": ["16,32", [8], [8]],
        "epochs": {"low": 2, "high": 5},
        "dropout": [],
    }
    axes = checked_axes(LESSON, space)
    assert axes["learning_rate"] == Range(1e-3, 1e-2, log=True)
    assert axes["filters"] == ((16, 32), (8,))
    assert axes["epochs"] == Range(2, 5)
    assert "dropout" not in axes
    assert "weight_decay" in axes


def test_read_axes_returns_exactly_the_written_axes():
    axes = checked_axes(LESSON, {**dict.fromkeys(LESSON.space, []), "flip": [True, False]})
    assert list(read_axes(LESSON, plain_axes(axes))) == ["flip"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("filters", (16, 32)), ("flip", False), ("conv_blocks", "conv - maxpool"), ("shift", 3)],
)
def test_a_value_of_a_choice_survives_conversion_to_text(name, value):
    parsed = parse(fields_of(LESSON)[name], text_of(value))
    assert parsed == value == getattr(override(LESSON, {name: parsed}), name)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"speed": [1]}, "unknown setting 'speed' for ScratchRecipe: expected one of label_budget"),
        ({"speed": {"low": 0, "high": 1}}, "unknown setting 'speed'"),
        ({"learning_rate": 0.1}, "for learning_rate, received 0.1"),
        ({"learning_rate": {"low": 0.1}}, "expected .* for learning_rate"),
        ({"learning_rate": {"low": 0.1, "high": 0.01}}, "expected low below high"),
        ({"learning_rate": {"low": 0.0, "high": 0.01, "log": True}}, "low above 0 if log is true"),
        ({"learning_rate": {"low": 0.1, "high": 1, "log": True, "step": 0.1}}, "log or step"),
        ({"learning_rate": {"low": "a", "high": 1}}, "expected .* for learning_rate"),
        (
            {"learning_rate": {"low": 1, "high": 1000}},
            "learning_rate: expected a number from 1e-09 to 100",
        ),
        ({"epochs": {"low": 1.5, "high": 3}}, "setting epochs: expected a whole number"),
        ({"filters": {"low": 1, "high": 2}}, "expected .* for filters"),
        ({"filters": ["a"]}, "setting filters: expected whole numbers"),
        ({"optimizer": ["adam"]}, "setting optimizer: expected one of"),
        ({"label_budget": ["5%"]}, "label_budget is the same in all trials"),
        ({"fit_on": ["train"]}, "fit_on is the same in all trials"),
        (dict.fromkeys(LESSON.space, ()), "expected at least one setting to search"),
    ],
)
def test_an_invalid_space_is_rejected(space, message):
    with pytest.raises(BadInput, match=message):
        checked_axes(LESSON, space)
