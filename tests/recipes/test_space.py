"""Search spaces: a recipe's own axes, replaced and checked, and refused in one sentence."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import BadInput
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.settings import override
from pipeline.recipes.space import Choice, Range, checked_axes, plain_axes, read_axes, text_of, value_of

LESSON = SCRATCH_RECIPES["lesson"]


def name_of(recipe) -> str:
    return recipe.name


@pytest.mark.parametrize(
    "recipe", [*SCRATCH_RECIPES.values(), *FINE_TUNE_RECIPES.values()], ids=lambda r: r.name
)
def test_every_recipe_has_a_space_that_passes_its_own_check(recipe):
    axes = checked_axes(recipe, {})
    assert axes == recipe.space
    assert read_axes(recipe, json.loads(json.dumps(plain_axes(axes)))) == axes


def test_an_axis_is_replaced_added_or_taken_away():
    space = {
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "filters": ["16,32", [8], [8]],
        "epochs": {"low": 2, "high": 5},
        "dropout": [],
    }
    axes = checked_axes(LESSON, space)
    assert axes["learning_rate"] == Range(1e-3, 1e-2, log=True)
    assert axes["filters"] == Choice(((16, 32), (8,)))
    assert axes["epochs"] == Range(2, 5)
    assert "dropout" not in axes
    assert "weight_decay" in axes


def test_axes_that_were_written_are_read_back_and_none_besides():
    axes = checked_axes(LESSON, {**dict.fromkeys(LESSON.space, []), "flip": [True, False]})
    assert list(read_axes(LESSON, plain_axes(axes))) == ["flip"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("filters", (16, 32)), ("flip", False), ("conv_blocks", "conv - maxpool"), ("shift", 3)],
)
def test_a_choice_goes_through_its_text_and_back(name, value):
    assert value_of(LESSON, name, text_of(value)) == value
    assert getattr(override(LESSON, {name: value_of(LESSON, name, text_of(value))}), name) == value


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"speed": [1]}, "unknown setting 'speed'; expected some of labels"),
        ({"speed": {"low": 0, "high": 1}}, "unknown setting 'speed'"),
        ({"learning_rate": 0.1}, "for learning_rate, received 0.1"),
        ({"learning_rate": {"low": 0.1}}, "expected .* for learning_rate"),
        ({"learning_rate": {"low": 0.1, "high": 0.01}}, "expected low below high"),
        ({"learning_rate": {"low": 0.0, "high": 0.01, "log": True}}, "above 0 where log is true"),
        ({"learning_rate": {"low": 0.1, "high": 1, "log": True, "step": 0.1}}, "log or step"),
        ({"learning_rate": {"low": "a", "high": 1}}, "expected .* for learning_rate"),
        (
            {"learning_rate": {"low": 1, "high": 1000}},
            "learning_rate: expected a number from 0.0 to 100",
        ),
        ({"epochs": {"low": 1.5, "high": 3}}, "setting epochs: expected a whole number"),
        ({"filters": {"low": 1, "high": 2}}, "expected .* for filters"),
        ({"filters": ["a"]}, "setting filters: expected whole numbers"),
        ({"optimizer": ["adam"]}, "setting optimizer: expected one of"),
        ({"label_budget": ["5%"]}, "expected no axis label_budget, which all trials share"),
        ({"fit_on": ["train"]}, "expected no axis fit_on"),
        (dict.fromkeys(LESSON.space, ()), "expected at least one setting to search"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(space, words):
    with pytest.raises(BadInput, match=words):
        checked_axes(LESSON, space)
