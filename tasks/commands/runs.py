"""List finished runs with their results.

examples:
  headstart runs                                  all finished runs, the most accurate first
  headstart runs cifar10 --sort seconds           those with cifar10 in their name, the quickest first
  headstart runs --only 'scheme=head:*' --only 'accuracy>0.6' --json
"""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Callable
from typing import Any

from pipeline.errors import BadInput, DamagedFile
from pipeline.formatting import align_columns, format_duration, format_interval
from pipeline.results.scores import score
from pipeline.runs.result import RunResult, read_run
from pipeline.storage import layout
from tasks.commands.shared import report_unreadable, show
from tasks.configuration import data_folder

TEXTS = ("run", "scheme", "weights", "data_set")
COLUMNS = (*TEXTS, "seed", "accuracy", "low", "high", "log_loss", "seconds")
SORTS = {"accuracy": True, "log_loss": False, "seconds": False, "run": False}  # highest first?


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="", help="a part of their names (default: all)")
    parser.add_argument("--sort", default="accuracy", help=f"{', '.join(SORTS)} (default: accuracy)")
    words = "a filter such as scheme=head:*, accuracy>0.6 or seconds<60; may be given several times"
    parser.add_argument("--only", action="append", default=[], metavar="FILTER", help=words)
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    if options.sort not in SORTS:
        raise BadInput(f"--sort: expected one of {', '.join(SORTS)}, received {options.sort!r}")
    tests, rows, unread = [_filter(text) for text in options.only], [], []
    for folder in layout.finished(data_folder(), "run"):
        if options.pattern not in folder.name:
            continue
        try:
            row = row_of(read_run(folder))
        except DamagedFile as error:
            unread.append(str(error))
            continue
        if all(test(row) for test in tests):
            rows.append(row)
    rows.sort(key=lambda row: row[options.sort], reverse=SORTS[options.sort])
    show([json.dumps(rows, indent=2)] if options.json else _table(rows))
    return report_unreadable(unread)


def row_of(run: RunResult) -> dict[str, Any]:
    """Return what is worth knowing of a run in a table, by COLUMNS."""
    recipe, scores = run.recipe, score(run.split("test"))
    known = {
        **recipe,
        "run": run.folder.name,
        "data_set": recipe["dataset_title"],
        "accuracy": scores["accuracy"],
        "low": scores["accuracy_low"],
        "high": scores["accuracy_high"],
        "log_loss": scores["log_loss"],
        "seconds": run.costs["total_seconds"],
    }
    return {name: known[name] for name in COLUMNS}


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["no finished runs; `headstart run` makes some"]
    cells = [
        [
            format_interval(row["accuracy"], row["low"], row["high"]),
            f"{row['log_loss']:.3f}",
            format_duration(row["seconds"]),
            str(row["seed"]),
            row["run"],
        ]
        for row in rows
    ]
    return align_columns([["test accuracy", "log loss", "total time", "seed", "run"], *cells])


def _filter(text: str) -> Callable[[dict[str, Any]], bool]:
    """Return the test of a row that scheme=head:*, accuracy>0.6 or seconds<60 stands for."""
    sign = next((sign for sign in "=<>" if sign in text), None)
    if sign is None:
        raise BadInput(f"--only {text!r}: expected a filter such as scheme=head:* or accuracy>0.6")
    name, _, value = text.partition(sign)
    if name not in COLUMNS:
        raise BadInput(f"--only {text!r}: expected one of {', '.join(COLUMNS)} before {sign}")
    if sign == "=":
        return lambda row: fnmatch.fnmatchcase(str(row[name]), value)
    try:
        bound = float(value)
    except ValueError:
        raise BadInput(f"--only {text!r}: expected a number behind {sign}, received {value!r}") from None
    if name in TEXTS:
        raise BadInput(f"--only {text!r}: expected = behind {name}, which is no number")
    return lambda row: bool(row[name] < bound if sign == "<" else row[name] > bound)
