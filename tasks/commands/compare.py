"""Compare any runs on the same images, with paired statistics, in a report of its own.

examples:
  headstart compare fine-tune-whole-digits-hed tuned-head-linear-digits-hed --name mine
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from collections.abc import Sequence
from typing import Any

from pipeline.errors import BadInput
from pipeline.recipes.named import NAME
from pipeline.recipes.presets import PRESETS
from pipeline.report.table import PAGE
from pipeline.runs.result import RunResult, read_run
from pipeline.storage import layout
from pipeline.storage.publishing import publish_manifest
from tasks.commands.shared import find_run, show
from tasks.configuration import data_folder
from tasks.reproducing import write_with_commands


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders, names or parts of names")
    parser.add_argument("--name", default="compared", help="data/reports/NAME (default: compared)")


def run(options: argparse.Namespace) -> int:
    name = options.name
    if not re.fullmatch(NAME, name) or name in PRESETS:
        raise BadInput(
            f"--name {name!r}: expected up to 100 letters, digits and . _ + -, and no preset's name"
        )
    folders = list(dict.fromkeys(find_run(text) for text in options.runs))
    if len(folders) < 2:
        raise BadInput(f"expected two runs or more to compare, received {len(folders)}")
    runs = told_apart([read_run(folder) for folder in folders])
    target = layout.report_folder(data_folder(), name)
    names = [folder.name for folder in folders]
    command = shlex.join(["headstart", "compare", *names, "--name", name])
    text, files = write_with_commands(target, runs, f"Comparison of {len(runs)} runs", command=command)
    publish_manifest(target, {"compared": names}, files)
    return show([*text.splitlines(), f"The page: {target / PAGE}"])


def told_apart(runs: Sequence[RunResult]) -> list[RunResult]:
    """Return runs; where several have one scheme, its name says in what they differ: settings, images, …"""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.recipe["scheme"], run.recipe["weights"]), []).append(run)
    return [_named_apart(run, groups[run.recipe["scheme"], run.recipe["weights"]]) for run in runs]


def _named_apart(run: RunResult, alike: list[RunResult]) -> RunResult:
    settings = [one.recipe["settings"] for one in alike]
    names = sorted({name for one in settings for name in one})
    differ = [name for name in names if any(one.get(name) != settings[0].get(name) for one in settings)]
    words = [f"{name} {_brief(run.recipe['settings'].get(name))}" for name in differ]
    for field, unit in (("n_train", " images"), ("precision", ""), ("backbone", "")):
        if len({one.recipe[field] for one in alike}) > 1:
            words.append(f"{run.recipe[field]}{unit}")
    if not words:
        return run
    scheme = f"{run.recipe['scheme']} ({', '.join(words)})"
    return dataclasses.replace(run, recipe={**run.recipe, "scheme": scheme})


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
