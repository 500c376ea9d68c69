"""Train one run, with every setting as an option; features and sweeps that it needs are made first.

examples:
  headstart train head --dataset cifar10-sample                 a head on cached features
  headstart train tuned-head --recipe linear --input-size 96    the best head of a sweep
  headstart train fine-tune --recipe block5 --input-size 128    block 5, from cached feature maps
  headstart train head --recipe dense --help                    the settings of a recipe with its values
"""

import argparse

from pipeline.recipes.named import named_recipe
from pipeline.recipes.schemes import SCHEMES, Scheme
from pipeline.recipes.settings import as_dict
from pipeline.runs.result import read_run
from tasks import PlotRun, ScoreRun
from tasks.commands.build import build
from tasks.commands.options import add_task_options, given, task_of
from tasks.commands.shared import show
from tasks.commands.show import describe
from tasks.recipes import recipes_folder
from tasks.training import training_task


def add_options(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    schemes = parser.add_subparsers(dest="scheme", required=True, metavar="SCHEME")
    for name, scheme in SCHEMES.items():
        task = training_task(name)
        first = (task.__doc__ or name).partition("\n")[0]
        scheme_parser = schemes.add_parser(name, help=first, description=first)
        if name in arguments[1:2] or not arguments:
            defaults = as_dict(named_recipe(recipes_folder(), scheme, _recipe_in(arguments, scheme)))
            add_task_options(scheme_parser, task, defaults)


def _recipe_in(arguments: list[str], scheme: Scheme) -> str:
    """Return the name of the recipe in arguments, or the default one; its settings are shown by --help."""
    finder = argparse.ArgumentParser(add_help=False)
    finder.add_argument("--recipe", default=next(iter(scheme.recipes)))
    return finder.parse_known_args(arguments)[0].recipe


def run(options: argparse.Namespace) -> int:
    task = training_task(options.scheme)
    train, reports = task_of(task, options), given(ScoreRun, options)
    others = given(task, options).items()
    settings = {name: value for name, value in others if name not in {*reports, "recipe"}}
    parameters = {**reports, "scheme": f"{options.scheme}:{train.recipe}", "settings": settings}
    score, plots = ScoreRun(**parameters), PlotRun(**parameters)
    if code := build([score, plots], [train]):
        return code
    lines = [*describe(read_run(train.folder)), f"  plots: {plots.folder}"]
    return show([*lines, "", f"Next: headstart predict {train.folder.name} PICTURES"])
