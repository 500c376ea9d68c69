"""List finished runs."""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Sequence
from typing import Any

from pipeline.errors import BadInput, DamagedFile
from pipeline.formatting import aligned, shown_seconds
from pipeline.results.scores import score
from pipeline.runs.result import RunResult, read_run
from pipeline.storage import layout
from tasks.commands.shared import report_unreadable, show
from tasks.configuration import data_folder

DESCRIPTION = "List finished runs with their results."
EXAMPLES = """examples:
  headstart runs                                  all finished runs, the most accurate first
  headstart runs cifar10 --sort seconds           those with cifar10 in their name, the quickest first
  headstart runs --only 'scheme=head:*' --only 'accuracy>0.6' --json
"""


COLUMNS = ("run", "scheme", "weights", "data_set", "seed", "accuracy", "low", "high", "log_loss", "seconds")
SORTS = {
    "accuracy": True,
    "log_loss": False,
    "seconds": False,
    "run": False,
}  # whether the highest comes first


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("pattern", nargs="?", default="", help="a part of their names (default: all)")
    parser.add_argument("--sort", default="accuracy", help=f"{', '.join(SORTS)} (default: accuracy)")
    words = "a filter such as scheme=head:*, accuracy>0.6 or seconds<60; may be given several times"
    parser.add_argument("--only", action="append", default=[], metavar="FILTER", help=words)
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    rows, unread = run_rows(options.pattern, sort=options.sort, only=options.only)
    show([json.dumps(rows, indent=2)] if options.json else runs_lines(rows))
    return report_unreadable(unread)


def run_rows(pattern: str, *, sort: str, only: Sequence[str] = ()) -> tuple[list[dict], list[str]]:
    """Return what is known of the runs whose names hold a pattern, and in words which could not be read.

    only has filters such as scheme=head:* or accuracy>0.6; sort is a key of SORTS.
    """
    if sort not in SORTS:
        raise BadInput(f"--sort: expected one of {', '.join(SORTS)}, received {sort!r}")
    tests, rows, unread = [_filter(text) for text in only], [], []
    for folder in layout.finished(data_folder(), "run"):
        if pattern not in folder.name:
            continue
        try:
            row = row_of(read_run(folder))
        except DamagedFile as error:
            unread.append(str(error))
            continue
        if all(test(row) for test in tests):
            rows.append(row)
    rows.sort(key=lambda row: row[sort], reverse=SORTS[sort])
    return rows, unread


def runs_lines(rows: list[dict]) -> list[str]:
    """Return runs as a table for a terminal."""
    if not rows:
        return ["no finished runs; `headstart run` makes some"]
    header = ["test accuracy", "log loss", "total time", "seed", "run"]
    cells = [
        [
            f"{100 * row['accuracy']:.1f} % ({100 * row['low']:.1f}–{100 * row['high']:.1f})",
            f"{row['log_loss']:.3f}",
            shown_seconds(row["seconds"]),
            str(row["seed"]),
            row["run"],
        ]
        for row in rows
    ]
    return aligned([header, *cells])


def row_of(run: RunResult) -> dict[str, Any]:
    """Return what is worth knowing of a run in a table, by COLUMNS."""
    recipe, test = run.recipe, run.split("test")
    scores = score(test)
    known = {
        "run": run.folder.name,
        **{name: recipe[name] for name in ("scheme", "weights", "seed")},
        "data_set": recipe["dataset_title"],
        "accuracy": scores["accuracy"],
        "low": scores["accuracy_low"],
        "high": scores["accuracy_high"],
        "log_loss": scores["log_loss"],
        "seconds": run.costs["total_seconds"],
    }
    return {name: known[name] for name in COLUMNS}


def _filter(text: str):
    """Return the test of a row that scheme=head:*, accuracy>0.6 or seconds<60 stands for."""
    for sign in "=<>":
        name, found, value = text.partition(sign)
        if not found:
            continue
        if name not in COLUMNS:
            raise BadInput(f"--only {text!r}: expected one of {', '.join(COLUMNS)} before {sign}")
        if sign == "=":
            return lambda row: fnmatch.fnmatchcase(str(row[name]), value)
        try:
            bound = float(value)
        except ValueError:
            raise BadInput(f"--only {text!r}: expected a number behind {sign}, received {value!r}") from None
        if name in ("run", "scheme", "weights", "data_set"):
            raise BadInput(f"--only {text!r}: expected = behind {name}, which is no number")
        return lambda row: row[name] < bound if sign == "<" else row[name] > bound
    raise BadInput(f"--only {text!r}: expected a filter such as scheme=head:* or accuracy>0.6")
