"""Recipes that a search found, under a name of their own: data/recipes/<name>/ with a manifest.

A recipe there is a row of the scheme's own, with other settings; it is read as data and checked as the
settings of a command line are.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput, DamagedFile, unknown_name
from pipeline.recipes.schemes import SCHEMES, Scheme, find_scheme
from pipeline.recipes.settings import as_dict
from pipeline.storage.publishing import MANIFEST, publish_json, publish_manifest, read_manifest

FILE = "recipe.json"
NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"


def check_name(name: str, scheme: Scheme) -> None:
    """Raise BadInput for a name that no folder can have, or that a row of the scheme has."""
    if not re.fullmatch(NAME, name):
        raise BadInput(f"name {name!r}: expected up to 100 letters, digits and . _ + -, a letter first")
    if name in scheme.recipes:
        raise BadInput(f"name {name!r}: expected one that no {scheme.name} recipe has; choose another")


def publish_recipe(
    folder: Path,
    scheme: str,
    row: str,
    settings: dict[str, Any],
    origin: dict[str, Any],
    facts: dict[str, Any] | None = None,
) -> None:
    """Publish settings of a row of a scheme in folder; origin says how they were found."""
    publish_json(folder / FILE, {"scheme": scheme, "row": row, "settings": settings, "origin": origin})
    publish_manifest(folder, {"scheme": scheme, "row": row, "settings": settings}, [FILE], facts)


def base_of(recipes: Path, scheme: Scheme, name: str) -> tuple[str, dict[str, Any]]:
    """Return the row that a recipe of a name starts from, and the settings in which it differs.

    recipes is the folder of named recipes. Raises BadInput, which lists all names, for an unknown one and
    for one of another scheme, DamagedFile for one that is not what its manifest says.
    """
    if name in scheme.recipes:
        return name, {}
    if not (re.fullmatch(NAME, name) and (recipes / name / MANIFEST).is_file()):
        raise unknown_name(f"{scheme.name} recipe", name, [*scheme.recipes, *_names(recipes)])
    path = read_manifest(recipes / name).verified(FILE)
    found = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(found, dict) and isinstance(found.get("settings"), dict)):
        raise DamagedFile(f"{path}: expected scheme, row and settings; delete its folder and search again")
    if found.get("scheme") != scheme.name or found.get("row") not in scheme.recipes:
        raise BadInput(f"recipe {name!r} is one of {found.get('scheme')}, expected one of {scheme.name}")
    return found["row"], found["settings"]


def named_recipe(recipes: Path, scheme: Scheme, name: str, given: dict[str, Any] | None = None) -> Any:
    """Return a recipe of a scheme by name, a row or one in the folder recipes, with settings replaced."""
    row, settings = base_of(recipes, scheme, name)
    recipe = scheme.recipe(row, {**settings, **(given or {})})
    return dataclasses.replace(recipe, name=name)


def find_named(recipes: Path, text: str) -> tuple[Scheme, str]:
    """Return the scheme and recipe of `scheme:recipe`, rows and named recipes; raise BadInput."""
    name, _, recipe = text.partition(":")
    if name in SCHEMES and recipe in _names(recipes):
        base_of(recipes, SCHEMES[name], recipe)
        return SCHEMES[name], recipe
    return find_scheme(text)


def settings_beside(recipe: Any, row: Any) -> dict[str, Any]:
    """Return the settings of a recipe that differ from those of a row, as JSON has them."""
    own = as_dict(row)
    return {name: value for name, value in as_dict(recipe).items() if value != own[name]}


def _names(recipes: Path) -> list[str]:
    return sorted(path.parent.name for path in recipes.glob(f"*/{MANIFEST}"))
