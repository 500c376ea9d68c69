"""Every row of the tables of recipes, schemes and presets is valid, and invalid recipes are rejected."""

from __future__ import annotations

import dataclasses
import importlib
import re

import pytest

from pipeline.backbones.table import BACKBONES
from pipeline.errors import BadInput
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.heads import HEADS, resolve_layers
from pipeline.recipes.presets import PRESETS
from pipeline.recipes.schemes import SCHEMES, find_scheme
from pipeline.recipes.settings import as_dict, describe, override, plain

TABLES = {"HEADS": HEADS, "FINE_TUNE_RECIPES": FINE_TUNE_RECIPES, "SCRATCH_RECIPES": SCRATCH_RECIPES}
ROWS = [pytest.param(row, id=f"{table}-{name}") for table in TABLES for name, row in TABLES[table].items()]
PLANS = [
    pytest.param(plan, id=f"{preset.name}-{number}-{plan.scheme}")
    for preset in PRESETS.values()
    for number, plan in enumerate(preset.plans)
]


@pytest.mark.parametrize("recipe", ROWS)
def test_every_recipe_passes_its_own_check(recipe):
    recipe.check()
    settings = {
        field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe) if field.metadata
    }
    assert override(recipe, settings) == recipe


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_maps_names_to_rows_with_distinct_titles(table):
    assert list(table) == [row.name for row in table.values()]
    assert len({row.title for row in table.values()}) == len(table)


@pytest.mark.parametrize("recipe", HEADS.values(), ids=HEADS)
def test_heads_read_layers_that_the_backbone_has(recipe):
    row = BACKBONES["vgg16"]
    assert set(resolve_layers(recipe, row).layers) <= set(row.taps)


@pytest.mark.parametrize(
    ("blocks", "filters", "size", "message"),
    [
        (
            "conv - maxpool",
            [8] * 6,
            32,
            "block 6 pools 2x2 pixels, but its map has 1 (sides so far: 32, 16, 8, 4",
        ),
        (
            "conv - maxpool",
            [8] * 8,
            224,
            "block 8 pools 2x2 pixels, but its map has 1 (sides so far: 224, 112",
        ),
        ("conv - maxpool 4", [8] * 3, 32, "block 3 pools 4x4 pixels, but its map has 2"),
        ("conv - maxpool - avgpool 3 - maxpool 6", [8], 32, "block 1 pools 6x6 pixels, but its map has 5"),
        ("conv - maxpool 33", [8], 32, "block 1 pools 33x33 pixels, but its map has 32"),
    ],
)
def test_a_pool_below_one_pixel_is_refused_with_the_sizes(blocks, filters, size, message):
    recipe = SCHEMES["from-scratch"].recipe("lesson", {"conv_blocks": blocks, "filters": filters})
    with pytest.raises(BadInput, match=re.escape(message)):
        recipe.check_size(size)


def test_a_whitening_stem_leaves_one_pixel_less_for_pools():
    recipe = SCHEMES["from-scratch"].recipe("vgg16", {"stem": "whitening"})
    with pytest.raises(BadInput, match="block 5 pools 2x2 pixels, but its map has 1"):
        recipe.check_size(32)
    recipe.check_size(33)


@pytest.mark.parametrize("size", [32, 100, 224])
def test_pools_that_leave_one_pixel_are_accepted(size):
    blocks = {"conv_blocks": "conv - maxpool", "filters": [8] * 5}
    SCHEMES["from-scratch"].recipe("lesson", blocks).check_size(size)


@pytest.mark.parametrize(
    ("scheme", "recipe", "settings", "message"),
    [
        ("from-scratch", "lesson", {"conv_blocks": "conv - pool"}, "'pool' in block 'conv - pool'"),
        (
            "from-scratch",
            "lesson",
            {"conv_blocks": "conv | conv"},
            "each of the 3 filter counts, received 2",
        ),
        ("from-scratch", "lesson", {"filters": []}, "setting filters: expected at least one number"),
        ("from-scratch", "lesson", {"dense_blocks": "conv"}, "'conv' in block 'conv': .*in a dense block"),
        ("from-scratch", "lesson", {"units": [], "dense_blocks": "dens"}, "'dens' in block"),
        ("from-scratch", "lesson", {"neck": "max"}, "setting neck: expected one of flatten, average"),
        ("head", "linear", {"dense_blocks": "dropout"}, "expected at least one dense"),
        ("head", "linear", {"optimizer": "lion"}, "setting optimizer: expected one of adamw, sgd"),
        ("fine-tune", "whole", {"dense_blocks": "dense - dropout 2"}, "a rate from 0 to below 1"),
        ("fine-tune", "whole", {"freeze_through": 6}, "a whole number from 0 to 5, received 6"),
        ("fine-tune", "whole", {"shift": 17}, "a whole number from 0 to 16, received 17"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_rejected(scheme, recipe, settings, message):
    with pytest.raises(BadInput, match=message):
        SCHEMES[scheme].recipe(recipe, settings)


def test_an_unknown_recipe_is_rejected_with_a_list_of_the_schemes_recipes():
    with pytest.raises(BadInput, match="unknown head recipe 'lesson': expected one of .*linear"):
        SCHEMES["head"].recipe("lesson")


@pytest.mark.parametrize("text", ["head", "head:", "head:lesson", "heads:linear", "", ":linear"])
def test_an_unknown_scheme_is_rejected_with_the_closest_and_where_all_are_listed(text):
    with pytest.raises(
        BadInput, match=f"unknown scheme {text!r}: expected such as head:.*`headstart recipes`"
    ):
        find_scheme(text)


def test_a_scheme_and_its_recipe_are_parsed():
    assert find_scheme("fine-tune:block5") == (SCHEMES["fine-tune"], "block5")


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_schemes_training_function_exists_and_it_has_the_settings_of_all_its_recipes(scheme):
    module, _, function = scheme.train.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    expected = {name for recipe in scheme.recipes.values() for name in as_dict(recipe)}
    assert set(scheme.settings) == expected


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_setting_has_the_same_type_and_help_in_all_recipes_of_a_scheme(scheme):
    for recipe in scheme.recipes.values():
        for field in dataclasses.fields(recipe):
            if field.metadata:
                shared = scheme.settings[field.name]
                assert (field.type, field.name) == (shared.type, shared.name)
                assert describe(field).partition(", C of ")[0] == describe(shared).partition(", C of ")[0]


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_of_every_preset_resolves(plan):
    scheme, name = find_scheme(plan.scheme)
    settings = plain(plan.settings)
    space = settings.pop("space", {})
    resolved = as_dict(scheme.recipe(name, settings))
    assert {key: resolved[key] for key in settings} == settings
    assert not space or "sweep" in scheme.needs
    assert plan.weights is None or "weights" in scheme.needs


def test_an_unknown_preset_is_rejected_with_a_list_of_presets():
    with pytest.raises(BadInput, match="unknown preset 'huge': expected one of demo, full, quick"):
        PRESETS["huge"]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("depth", [16, 19])
def test_a_vgg_from_scratch_has_the_multiply_adds_of_the_pretrained_one(depth, size):
    expected = BACKBONES[f"vgg{depth}"].multiply_adds("block5_pool", size)
    assert SCRATCH_RECIPES[f"vgg{depth}"].multiply_adds(size) == expected


def test_multiply_adds_count_the_stem_only_through_the_channels_and_pools_shrink_the_map():
    recipe = override(SCRATCH_RECIPES["fast"], {"conv_blocks": "conv - maxpool - conv", "filters": (8,)})
    assert recipe.multiply_adds(32) == 31**2 * 9 * 24 * 8 + 15**2 * 9 * 8 * 8
