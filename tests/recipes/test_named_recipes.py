"""A recipe that a search left is found by its name, is checked as any settings are, and names no other's."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import BadInput, DamagedFile
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.named import (
    FILE,
    base_of,
    check_name,
    find_named,
    named_recipe,
    publish_recipe,
    settings_beside,
)
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import override

SCRATCH = SCHEMES["from-scratch"]
SETTINGS = {"filters": [8, 16], "learning_rate": 0.02}


@pytest.fixture
def recipes(tmp_path):
    publish_recipe(tmp_path / "mine", "from-scratch", "lesson", SETTINGS, {"study": "x"})
    return tmp_path


def test_a_named_recipe_is_its_row_with_other_settings_and_further_ones_go_before(recipes):
    found = named_recipe(recipes, SCRATCH, "mine", {"learning_rate": 0.1})
    assert found.name == "mine"
    assert found.filters == (8, 16)
    assert found.learning_rate == 0.1
    assert found.conv_blocks == SCRATCH_RECIPES["lesson"].conv_blocks


def test_a_row_is_a_row_whatever_lies_in_the_folder(recipes):
    publish_recipe(recipes / "fast", "from-scratch", "lesson", SETTINGS, {})
    assert named_recipe(recipes, SCRATCH, "fast") == SCRATCH_RECIPES["fast"]


def test_a_scheme_is_found_by_a_named_recipe_and_by_a_row(recipes):
    assert find_named(recipes, "from-scratch:mine") == (SCRATCH, "mine")
    assert find_named(recipes, "head:linear") == (SCHEMES["head"], "linear")


def test_an_unknown_name_is_refused_with_rows_and_named_recipes(recipes):
    with pytest.raises(BadInput, match="unknown from-scratch recipe 'yours': .*lesson.*mine"):
        base_of(recipes, SCRATCH, "yours")


@pytest.mark.parametrize("name", ["../mine", "mine/", "", ".", "mine/../mine"])
def test_a_name_never_leads_out_of_the_folder(recipes, name):
    with pytest.raises(BadInput, match="unknown from-scratch recipe"):
        base_of(recipes, SCRATCH, name)


def test_a_recipe_of_another_scheme_is_refused(recipes):
    with pytest.raises(BadInput, match="recipe 'mine' is one of from-scratch, expected one of fine-tune"):
        named_recipe(recipes, SCHEMES["fine-tune"], "mine")


def test_a_recipe_that_was_changed_is_damaged(recipes):
    path = recipes / "mine" / FILE
    path.write_text(path.read_text().replace("0.02", "0.03"))
    with pytest.raises(DamagedFile, match="sha256"):
        named_recipe(recipes, SCRATCH, "mine")


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"speed": 1}, "unknown setting 'speed'"), ({"filters": "rm -rf"}, "setting filters: expected")],
)
def test_settings_are_checked_as_those_of_a_command_line(recipes, settings, words):
    publish_recipe(recipes / "odd", "from-scratch", "lesson", settings, {})
    with pytest.raises(BadInput, match=words):
        named_recipe(recipes, SCRATCH, "odd")


def test_what_is_no_recipe_is_refused(recipes):
    publish_recipe(recipes / "odd", "from-scratch", "lesson", ["filters"], {})
    with pytest.raises(DamagedFile, match="expected scheme, row and settings"):
        named_recipe(recipes, SCRATCH, "odd")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fast", "that no from-scratch recipe has"),
        ("a/b", "expected up to 100 letters"),
        ("-x", "a letter first"),
    ],
)
def test_a_name_that_cannot_be_given_is_refused(name, words):
    with pytest.raises(BadInput, match=words):
        check_name(name, SCRATCH)


def test_settings_beside_a_row_are_those_that_differ():
    lesson = SCRATCH_RECIPES["lesson"]
    found = settings_beside(override(lesson, SETTINGS), lesson)
    assert json.loads(json.dumps(found)) == SETTINGS
