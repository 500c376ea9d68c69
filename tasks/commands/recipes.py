"""List the recipes of all schemes, or print the settings of one.

examples:
  headstart recipes                               every scheme:recipe, built-in or saved by a search
  headstart recipes fine-tune:block5              its settings, each with its help
"""

import argparse
import itertools
import json

from pipeline.formatting import align_columns
from pipeline.recipes.named import find_named, named_recipe, names_of
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import as_dict, describe
from tasks.commands.shared import show
from tasks.recipes import recipes_folder


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a recipe, such as block5 or head:linear")


def run(options: argparse.Namespace) -> int:
    folder = recipes_folder()
    if not options.name:
        titles = {
            f"{scheme.name}:{name}": row.title
            for scheme in SCHEMES.values()
            for name, row in scheme.recipes.items()
        }
        saved = dict.fromkeys(names_of(folder), "saved by a search")
        return show(align_columns([*(titles | saved).items()]))
    schemes = (scheme for scheme, row in SCHEMES.items() if options.name in row.recipes)
    scheme, name = find_named(folder, ":".join([*itertools.islice(schemes, 1), options.name]))
    recipe = named_recipe(folder, scheme, name)
    rows = [
        (f"  {setting}", json.dumps(value), describe(scheme.settings[setting]))
        for setting, value in as_dict(recipe).items()
    ]
    return show([f"{options.name}: {recipe.title}", *align_columns(rows)])
