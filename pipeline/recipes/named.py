"""Named recipes, which a search saves to data/recipes/<name>/ with a manifest.

A named recipe is a built-in recipe (a row of its scheme) with changed settings. It is read as data and its
settings are checked like those of a command line.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput, DamagedFile, unknown_name
from pipeline.recipes.schemes import SCHEMES, Scheme, find_scheme
from pipeline.recipes.settings import as_dict
from pipeline.storage.publishing import MANIFEST, publish_json, publish_manifest, read_manifest

RECIPE_FILE = "recipe.json"
RECIPE_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"


def check_name(name: str, scheme: Scheme) -> None:
    """Raise BadInput if name is not a valid folder name, or is already a built-in recipe of the scheme."""
    if not re.fullmatch(RECIPE_NAME, name):
        expected = "at most 100 letters, digits and . _ + -, starting with a letter or digit"
        raise BadInput(f"name {name!r}: expected {expected}")
    if name in scheme.recipes:
        raise BadInput(f"name {name!r}: already a built-in {scheme.name} recipe; choose another name")


def publish_recipe(
    folder: Path,
    scheme: str,
    row: str,
    settings: dict[str, Any],
    origin: dict[str, Any],
    facts: dict[str, Any] | None = None,
) -> None:
    """Publish changed settings of a row of a scheme to folder; origin describes the search."""
    publish_json(folder / RECIPE_FILE, {"scheme": scheme, "row": row, "settings": settings, "origin": origin})
    publish_manifest(folder, {"scheme": scheme, "row": row, "settings": settings}, [RECIPE_FILE], facts)


def row_and_settings(recipes: Path, scheme: Scheme, name: str) -> tuple[str, dict[str, Any]]:
    """Return the row that a recipe is based on and the settings that it changes.

    recipes is the folder of named recipes. Raises BadInput if the name is unknown (it lists all names) or
    belongs to another scheme, and DamagedFile if the recipe does not match its manifest.
    """
    if name in scheme.recipes:
        return name, {}
    if not (re.fullmatch(RECIPE_NAME, name) and (recipes / name / MANIFEST).is_file()):
        raise unknown_name(f"{scheme.name} recipe", name, [*scheme.recipes, *names_of(recipes)])
    path = read_manifest(recipes / name).verified(RECIPE_FILE)
    content = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(content, dict) and isinstance(content.get("settings"), dict)):
        raise DamagedFile(f"{path}: expected scheme, row and settings; delete its folder and search again")
    if content.get("scheme") != scheme.name or content.get("row") not in scheme.recipes:
        raise BadInput(f"recipe {name!r}: expected a {scheme.name} recipe, received {content.get('scheme')}")
    return content["row"], content["settings"]


def named_recipe(recipes: Path, scheme: Scheme, name: str, overrides: dict[str, Any] | None = None) -> Any:
    """Return a built-in or named recipe of a scheme, with settings overridden."""
    row, settings = row_and_settings(recipes, scheme, name)
    recipe = scheme.recipe(row, {**settings, **(overrides or {})})
    return dataclasses.replace(recipe, name=name)


def find_named(recipes: Path, text: str) -> tuple[Scheme, str]:
    """Parse `scheme:recipe`, where recipe is built-in or named; raise BadInput."""
    name, _, recipe = text.partition(":")
    if name in SCHEMES and recipe in names_of(recipes):
        row_and_settings(recipes, SCHEMES[name], recipe)
        return SCHEMES[name], recipe
    return find_scheme(text)


def changed_settings(recipe: Any, row: Any) -> dict[str, Any]:
    """Return the settings of a recipe that differ from those of a row, as JSON values."""
    original = as_dict(row)
    return {name: value for name, value in as_dict(recipe).items() if value != original[name]}


def names_of(recipes: Path) -> list[str]:
    """Return the names of the recipes that searches saved, sorted."""
    return sorted(path.parent.name for path in recipes.glob(f"*/{MANIFEST}"))
