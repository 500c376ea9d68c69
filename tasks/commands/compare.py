"""Compare two or more runs on the same test images in a separate report with paired statistics.

examples:
  headstart compare head-dense-cifar10-sample tuned-head-linear --name mine
"""

import argparse
import dataclasses
import re
import shlex
from collections.abc import Sequence

from pipeline.errors import BadInput
from pipeline.recipes.named import RECIPE_NAME
from pipeline.recipes.presets import PRESETS
from pipeline.report.table import COMPARISON_PAGE
from pipeline.runs.result import RunResult, differing_settings, read_run
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import publish_manifest
from tasks.commands.shared import find_run, show
from tasks.configuration import check_writable, data_folder
from tasks.reproducing import write_with_commands


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders, names or parts of names")
    parser.add_argument("--name", help="writes data/reports/NAME (default: compared- and a key of the data)")


def run(options: argparse.Namespace) -> int:
    name = options.name
    if name is not None and (not re.fullmatch(RECIPE_NAME, name) or name in PRESETS):
        raise BadInput(
            f"--name {name!r}: expected up to 100 letters, digits and . _ + -, and not the name of a preset"
        )
    folders = list(dict.fromkeys(find_run(text) for text in options.runs))
    if len(folders) < 2:
        raise BadInput(f"expected at least two runs to compare, received {len(folders)}")
    runs = with_distinct_names([read_run(folder) for folder in folders])
    check_writable()
    name = name or f"compared-{key_of(runs[0].recipe['fingerprint'].get('dataset'))[:6]}"
    target, names = data_folder() / layout.folder_of("comparison") / name, [folder.name for folder in folders]
    command = shlex.join(["headstart", "compare", *names, "--name", name])
    title = f"Comparison of {len(runs)} runs · {runs[0].recipe['dataset_title']} · {name}"
    text, files = write_with_commands(target, runs, title, command=command)
    publish_manifest(target, {"compared": names}, files)
    return show([*text.splitlines(), f"Report: {target / COMPARISON_PAGE}"])


def with_distinct_names(runs: Sequence[RunResult]) -> list[RunResult]:
    """Return runs; runs of the same scheme get the settings in which they differ appended to its name."""
    return [
        dataclasses.replace(run, recipe={**run.recipe, "scheme": f"{run.recipe['scheme']} ({text})"})
        if text
        else run
        for run, text in zip(runs, differing_settings(runs), strict=True)
    ]
