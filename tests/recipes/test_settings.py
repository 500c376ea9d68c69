"""A setting is declared once; parsing, checks and help follow from the declaration."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass

import pytest

from pipeline.errors import BadInput
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.heads import HEADS
from pipeline.recipes.settings import as_dict, checked, describe, in_keys, override, parse, setting

RECIPES = [recipe for table in (HEADS, FINE_TUNE_RECIPES, SCRATCH_RECIPES) for recipe in table.values()]


@dataclass(frozen=True)
class Example:
    """One setting of every type, and two fields that are not settings."""

    name: str = "example"
    title: str = "an example"
    epochs: int = setting(5, "passes", low=0, high=100)
    rate: float = setting(0.5, "step size", low=0.0)
    loss: float = setting(1.0, "an upper bound", high=2.0)
    flip: bool = setting(False, "mirror images")
    neck: str = setting("flatten", "the neck", choices=("flatten", "average"))
    note: str = setting("", "anything")
    units: tuple[int, ...] = setting((8,), "widths", low=1, high=64)
    layers: tuple[str, ...] = setting(("a",), "names")


FIELDS = {field.name: field for field in dataclasses.fields(Example)}


def as_text(value) -> str:
    """Return a setting's value as command-line text."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "12", 12),
        ("epochs", " 0 ", 0),
        ("epochs", "100", 100),
        ("rate", "1e-3", 0.001),
        ("rate", "3", 3.0),
        ("loss", "-7.5", -7.5),
        ("flip", "true", True),
        ("flip", "YES", True),
        ("flip", "off", False),
        ("flip", "0", False),
        ("neck", "average", "average"),
        ("note", "conv - maxpool, twice", "conv - maxpool, twice"),
        ("units", "64, 32,1", (64, 32, 1)),
        ("units", "7", (7,)),
        ("units", "", ()),
        ("layers", "block3_pool, block4_pool", ("block3_pool", "block4_pool")),
    ],
)
def test_text_is_parsed_to_the_type_of_its_setting(name, text, value):
    parsed = parse(FIELDS[name], text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("epochs", "many", "a whole number from 0 to 100"),
        ("epochs", "2.5", "a whole number from 0 to 100"),
        ("epochs", "101", "a whole number from 0 to 100"),
        ("epochs", "-1", "a whole number from 0 to 100"),
        ("epochs", "", "a whole number from 0 to 100"),
        ("rate", "fast", "a number of 0.0 or more"),
        ("rate", "-0.1", "a number of 0.0 or more"),
        ("rate", "nan", "a number of 0.0 or more"),
        ("loss", "2.1", "a number of 2.0 or less"),
        ("loss", "inf", "a number of 2.0 or less"),
        ("flip", "perhaps", "true or false"),
        ("flip", "2", "true or false"),
        ("neck", "Average", "one of flatten, average"),
        ("units", "64;32", "whole numbers separated by commas from 1 to 64"),
        ("units", "64,0", "whole numbers separated by commas from 1 to 64"),
    ],
)
def test_invalid_text_is_rejected_with_the_valid_values(name, text, expected):
    with pytest.raises(BadInput, match=f"setting {name}: expected {re.escape(expected)}, received"):
        parse(FIELDS[name], text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", True),
        ("epochs", 3.0),
        ("epochs", "3"),
        ("epochs", None),
        ("rate", True),
        ("rate", "0.1"),
        ("rate", 10**400 * -1),
        ("flip", 1),
        ("flip", "true"),
        ("neck", 3),
        ("note", 3),
        ("units", 8),
        ("units", "8"),
        ("units", [8, True]),
        ("units", [8, 2.0]),
        ("units", [8, [9]]),
        ("layers", "block3_pool"),
        ("layers", [3]),
    ],
)
def test_a_value_of_another_type_is_rejected(name, value):
    with pytest.raises(BadInput, match=f"setting {name}: expected .* received"):
        checked(FIELDS[name], value)


def test_the_message_contains_the_received_value():
    with pytest.raises(BadInput, match=r"received \[8, True\]"):
        checked(FIELDS["units"], [8, True])
    with pytest.raises(BadInput, match="received '64;32'"):
        parse(FIELDS["units"], "64;32")


def test_lists_become_tuples_and_integers_become_floats():
    assert checked(FIELDS["units"], [8, 9]) == (8, 9)
    assert isinstance(checked(FIELDS["units"], [8, 9]), tuple)
    assert isinstance(checked(FIELDS["rate"], 3), float)


def test_override_replaces_settings_in_a_copy():
    before = Example()
    after = override(before, {"units": [16, 4], "rate": 2, "flip": True})
    assert (after.units, after.rate, after.flip) == ((16, 4), 2.0, True)
    assert dataclasses.replace(after, units=(8,), rate=0.5, flip=False) == before == Example()


@pytest.mark.parametrize("name", ["epoch", "name", "title"])
def test_an_unknown_setting_is_rejected_with_a_list_of_settings(name):
    names = "epochs, rate, loss, flip, neck, note, units, layers"
    with pytest.raises(BadInput, match=f"unknown setting '{name}' for Example: expected one of {names}$"):
        override(Example(), {"epochs": 3, name: 3})


def test_override_rejects_an_invalid_value():
    with pytest.raises(BadInput, match="setting epochs: expected a whole number from 0 to 100, received 101"):
        override(Example(), {"epochs": 101})


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("epochs", "passes; from 0 to 100"),
        ("rate", "step size; of 0.0 or more"),
        ("loss", "an upper bound; of 2.0 or less"),
        ("flip", "mirror images"),
        ("neck", "the neck; one of flatten, average"),
    ],
)
def test_the_help_contains_the_valid_values(name, help):
    assert describe(FIELDS[name]) == help


def test_settings_as_a_dict_are_json_values_without_name_and_title():
    settings = as_dict(Example(units=(3, 4)))
    assert list(settings) == ["epochs", "rate", "loss", "flip", "neck", "note", "units", "layers"]
    assert json.loads(json.dumps(settings)) == settings
    assert settings["units"] == [3, 4]


def test_keys_have_later_settings_only_with_another_value_than_before():
    recipe = HEADS["ridge"]
    assert in_keys(recipe).keys() == as_dict(recipe).keys() - {"class_weights"}
    balanced = override(recipe, {"class_weights": "balanced"})
    assert in_keys(balanced) == as_dict(balanced)
    assert override(recipe, in_keys(balanced)) == balanced


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{type(recipe).__name__}-{recipe.name}")
def test_every_setting_of_every_recipe_survives_text_and_json(recipe):
    fields = [field for field in dataclasses.fields(recipe) if field.metadata]
    for field in fields:
        value = getattr(recipe, field.name)
        assert parse(field, as_text(value)) == value
        assert describe(field).startswith(field.metadata["help"])
    assert override(recipe, json.loads(json.dumps(as_dict(recipe)))) == recipe
