"""Print all that is known of one run."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.formatting import shown_seconds
from pipeline.runs.result import data_of, read_run
from tasks.commands.runs import row_of
from tasks.commands.shared import RUN_HELP, find_run, show

DESCRIPTION = "Print one run."
EXAMPLES = """examples:
  headstart show head-linear-digits-hed-seed0     a run by its name, or a part of it that no other has
  headstart show data/runs/head-linear-digits-hed-seed0-5d3bd8b9e05c
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return show(show_lines(find_run(options.run)))


def show_lines(folder: Path) -> list[str]:
    """Return all that is worth knowing of one run."""
    run = read_run(folder)
    row, recipe, last = row_of(run), run.recipe, run.history.to_dict("records")[-1:]
    lines = [
        folder.name,
        f"  {recipe['scheme']}, weights {recipe['weights']}, seed {recipe['seed']}, {recipe['precision']}",
        f"  {data_of(recipe)}",
        f"  test: {100 * row['accuracy']:.2f} % (95 %: {100 * row['low']:.2f} to {100 * row['high']:.2f}), "
        f"log loss {row['log_loss']:.4f}",
        f"  time: {shown_seconds(run.costs['total_seconds'])} in all, training "
        f"{shown_seconds(run.costs['train_seconds'])}, memory {run.costs['peak_memory_mb']:,.0f} MB",
    ]
    for epoch in last:
        lines.append(
            f"  last epoch {epoch['epoch']}: train loss {epoch['train_loss']:.4f}, val loss "
            f"{epoch['val_loss']:.4f}, val accuracy {100 * epoch['val_accuracy']:.2f} %"
        )
    if "prefix" in recipe:
        lines.append(f"  trained {recipe['prefix']}")
    lines += [f"  warning: {text}" for text in recipe.get("warnings", [])]
    lines += ["  settings:"] + [f"    {name} = {value}" for name, value in sorted(recipe["settings"].items())]
    return [*lines, f"  files: {folder}"]
