"""Print the results, costs and settings of one run.

examples:
  headstart show head-dense-cifar10-sample        by name, or by a part of the name that is unique
  headstart show data/runs/head-linear-cifar10-sample-imagenet-seed0-5d3bd8b9e05c
"""

import argparse

from pipeline.formatting import describe_sizes, format_duration, format_share, format_value
from pipeline.runs.result import RunResult, data_of, read_run
from tasks.commands.runs import row_of
from tasks.commands.shared import RUN_HELP, find_run, show


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)


def run(options: argparse.Namespace) -> int:
    run = read_run(find_run(options.run))
    settings = sorted(run.recipe["settings"].items())
    return show([*describe(run), "  settings:", *(f"    {name} = {value}" for name, value in settings)])


def describe(run: RunResult) -> list[str]:
    """Return the lines on a run: what it is, its results and costs."""
    row, recipe, costs = row_of(run), run.recipe, run.costs
    lines = [
        run.folder.name,
        f"  {recipe['scheme']}, weights {recipe['weights']}, seed {recipe['seed']}, {recipe['precision']}",
        f"  {describe_sizes(recipe)}",
        f"  {data_of(recipe)}",
        f"  val accuracy {format_share(row, 'val_accuracy')}, "
        f"test accuracy {format_share(row, 'accuracy')}, balanced accuracy "
        f"{format_value(row['balanced_accuracy'], '%')}, log loss {format_value(row['log_loss'], '')}",
        f"  time: {format_duration(costs['total_seconds'])}, of which training "
        f"{format_duration(costs['train_seconds'])}; peak memory {costs['peak_memory_mb']:,.0f} MB",
    ]
    lines += [f"  trained {recipe['prefix']}"] if "prefix" in recipe else []
    lines += [f"  warning: {text}" for text in recipe.get("warnings", [])]
    return [*lines, f"  files: {run.folder}"]
