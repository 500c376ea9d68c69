"""A recipe that a search saved can be used by name, and its name and settings are checked."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import BadInput, DamagedFile
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.named import (
    RECIPE_FILE,
    changed_settings,
    check_name,
    find_named,
    named_recipe,
    publish_recipe,
    row_and_settings,
)
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import override

SCRATCH = SCHEMES["from-scratch"]
SETTINGS = {"filters": [8, 16], "learning_rate": 0.02}


@pytest.fixture
def recipes(tmp_path):
    publish_recipe(tmp_path / "mine", "from-scratch", "lesson", SETTINGS, {"study": "x"})
    return tmp_path


def test_a_named_recipe_is_its_row_with_changed_settings_and_overrides_take_precedence(recipes):
    recipe = named_recipe(recipes, SCRATCH, "mine", {"learning_rate": 0.1})
    assert recipe.name == "mine"
    assert recipe.filters == (8, 16)
    assert recipe.learning_rate == 0.1
    assert recipe.conv_blocks == SCRATCH_RECIPES["lesson"].conv_blocks


def test_a_built_in_recipe_takes_precedence_over_a_named_one(recipes):
    publish_recipe(recipes / "fast", "from-scratch", "lesson", SETTINGS, {})
    assert named_recipe(recipes, SCRATCH, "fast") == SCRATCH_RECIPES["fast"]


def test_scheme_and_recipe_are_parsed_for_named_and_built_in_recipes(recipes):
    assert find_named(recipes, "from-scratch:mine") == (SCRATCH, "mine")
    assert find_named(recipes, "head:linear") == (SCHEMES["head"], "linear")


def test_an_unknown_name_is_rejected_with_a_list_of_built_in_and_named_recipes(recipes):
    with pytest.raises(BadInput, match="unknown from-scratch recipe 'yours': .*lesson.*mine"):
        row_and_settings(recipes, SCRATCH, "yours")


@pytest.mark.parametrize("name", ["../mine", "mine/", "", ".", "mine/../mine"])
def test_a_name_cannot_leave_the_folder(recipes, name):
    with pytest.raises(BadInput, match="unknown from-scratch recipe"):
        row_and_settings(recipes, SCRATCH, name)


def test_a_recipe_of_another_scheme_is_rejected(recipes):
    with pytest.raises(BadInput, match="recipe 'mine': expected a fine-tune recipe, received from-scratch"):
        named_recipe(recipes, SCHEMES["fine-tune"], "mine")


def test_an_edited_recipe_is_damaged(recipes):
    path = recipes / "mine" / RECIPE_FILE
    path.write_text(path.read_text().replace("0.02", "0.03"))
    with pytest.raises(DamagedFile, match="sha256"):
        named_recipe(recipes, SCRATCH, "mine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"speed": 1}, "unknown setting 'speed'"), ({"filters": "rm -rf"}, "setting filters: expected")],
)
def test_settings_are_checked_like_those_of_a_command_line(recipes, settings, message):
    publish_recipe(recipes / "odd", "from-scratch", "lesson", settings, {})
    with pytest.raises(BadInput, match=message):
        named_recipe(recipes, SCRATCH, "odd")


def test_a_file_that_is_not_a_recipe_is_rejected(recipes):
    publish_recipe(recipes / "odd", "from-scratch", "lesson", ["filters"], {})
    with pytest.raises(DamagedFile, match="expected scheme, row and settings"):
        named_recipe(recipes, SCRATCH, "odd")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fast", "already a built-in from-scratch recipe"),
        ("a/b", "expected at most 100 letters"),
        ("-x", "starting with a letter or digit"),
    ],
)
def test_an_invalid_or_taken_name_is_rejected(name, message):
    with pytest.raises(BadInput, match=message):
        check_name(name, SCRATCH)


def test_changed_settings_are_those_that_differ_from_the_row():
    lesson = SCRATCH_RECIPES["lesson"]
    changed = changed_settings(override(lesson, SETTINGS), lesson)
    assert json.loads(json.dumps(changed)) == SETTINGS
