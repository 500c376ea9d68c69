"""Print the results, costs and settings of one run.

examples:
  headstart show head-dense-cifar10-sample        by name, or by a part of the name that is unique
  headstart show data/runs/head-linear-cifar10-sample-imagenet-seed0-5d3bd8b9e05c
"""

from __future__ import annotations

import argparse

from pipeline.formatting import describe_sizes, format_duration
from pipeline.runs.result import data_of, read_run
from tasks.commands.runs import row_of
from tasks.commands.shared import RUN_HELP, find_run, show


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)


def run(options: argparse.Namespace) -> int:
    run = read_run(find_run(options.run))
    row, recipe, costs = row_of(run), run.recipe, run.costs
    lines = [
        run.folder.name,
        f"  {recipe['scheme']}, weights {recipe['weights']}, seed {recipe['seed']}, {recipe['precision']}",
        f"  {describe_sizes(recipe)}",
        f"  {data_of(recipe)}",
        f"  test: {100 * row['accuracy']:.2f} % (95 %: {100 * row['low']:.2f} to {100 * row['high']:.2f}), "
        f"log loss {row['log_loss']:.4f}",
        f"  time: {format_duration(costs['total_seconds'])}, of which training "
        f"{format_duration(costs['train_seconds'])}; peak memory {costs['peak_memory_mb']:,.0f} MB",
    ]
    for epoch in run.history.to_dict("records")[-1:]:
        lines.append(
            f"  last epoch {epoch['epoch']}: train loss {epoch['train_loss']:.4f}, val loss "
            f"{epoch['val_loss']:.4f}, val accuracy {100 * epoch['val_accuracy']:.2f} %"
        )
    lines += [f"  trained {recipe['prefix']}"] if "prefix" in recipe else []
    lines += [f"  warning: {text}" for text in recipe.get("warnings", [])]
    lines += ["  settings:", *(f"    {name} = {value}" for name, value in sorted(recipe["settings"].items()))]
    return show([*lines, f"  files: {run.folder}"])
