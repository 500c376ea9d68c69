"""Compare two or more runs on the same test images in a separate report with paired statistics.

examples:
  headstart compare head-dense-cifar10-sample tuned-head-linear --name mine
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from collections.abc import Sequence
from typing import Any

from pipeline.errors import BadInput
from pipeline.recipes.named import RECIPE_NAME
from pipeline.recipes.presets import PRESETS
from pipeline.report.table import COMPARISON_PAGE
from pipeline.runs.result import RunResult, read_run
from pipeline.storage import layout
from pipeline.storage.publishing import publish_manifest
from tasks.commands.shared import find_run, show
from tasks.configuration import data_folder
from tasks.reproducing import write_with_commands


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders, names or parts of names")
    parser.add_argument("--name", default="compared", help="writes data/reports/NAME (default: compared)")


def run(options: argparse.Namespace) -> int:
    name = options.name
    if not re.fullmatch(RECIPE_NAME, name) or name in PRESETS:
        raise BadInput(
            f"--name {name!r}: expected up to 100 letters, digits and . _ + -, and not the name of a preset"
        )
    folders = list(dict.fromkeys(find_run(text) for text in options.runs))
    if len(folders) < 2:
        raise BadInput(f"expected at least two runs to compare, received {len(folders)}")
    runs = with_distinct_names([read_run(folder) for folder in folders])
    target = layout.report_folder(data_folder(), name)
    names = [folder.name for folder in folders]
    command = shlex.join(["headstart", "compare", *names, "--name", name])
    text, files = write_with_commands(target, runs, f"Comparison of {len(runs)} runs", command=command)
    publish_manifest(target, {"compared": names}, files)
    return show([*text.splitlines(), f"Report: {target / COMPARISON_PAGE}"])


def with_distinct_names(runs: Sequence[RunResult]) -> list[RunResult]:
    """Return runs; runs of the same scheme get the settings in which they differ appended to its name."""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.recipe["scheme"], run.recipe["weights"]), []).append(run)
    return [_with_distinct_name(run, groups[run.recipe["scheme"], run.recipe["weights"]]) for run in runs]


# Fields of the recipe that tell runs of one scheme apart, with their units.
FIELDS = {"n_train": " images", "image_size": " px images", "precision": "", "backbone": ""}


def _with_distinct_name(run: RunResult, same_scheme: list[RunResult]) -> RunResult:
    settings = [other.recipe["settings"] for other in same_scheme]
    names = sorted({name for values in settings for name in values})
    differing = [name for name in names if any(one.get(name) != settings[0].get(name) for one in settings)]
    parts = [f"{name} {_format(run.recipe['settings'].get(name))}" for name in differing]
    for field, unit in FIELDS.items():
        if len({other.recipe[field] for other in same_scheme}) > 1:
            parts.append(f"{run.recipe[field]}{unit}")
    if not parts:
        return run
    scheme = f"{run.recipe['scheme']} ({', '.join(parts)})"
    return dataclasses.replace(run, recipe={**run.recipe, "scheme": scheme})


def _format(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
