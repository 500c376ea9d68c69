"""List finished runs with accuracy, log loss, time and seed.

examples:
  headstart runs                                  all finished runs, the most accurate first
  headstart runs cifar10 --sort seconds           runs with cifar10 in their name, the fastest first
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
COLUMNS = (*TEXTS, "image_size", "input_size", "seed", "accuracy", "low", "high", "log_loss", "seconds")
SORTS = {"accuracy": True, "log_loss": False, "seconds": False, "run": False}  # highest first?


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="", help="part of the run's name (default: all)")
    parser.add_argument("--sort", default="accuracy", help=f"{', '.join(SORTS)} (default: accuracy)")
    filters = "such as scheme=head:*, accuracy>0.6 or seconds<60; can be repeated"
    parser.add_argument("--only", action="append", default=[], metavar="FILTER", help=filters)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    if options.sort not in SORTS:
        raise BadInput(f"--sort: expected one of {', '.join(SORTS)}, received {options.sort!r}")
    filters, rows, unreadable = [_filter(text) for text in options.only], [], []
    for folder in layout.finished(data_folder(), "run"):
        if options.pattern not in folder.name:
            continue
        try:
            row = row_of(read_run(folder))
        except DamagedFile as error:
            unreadable.append(str(error))
            continue
        if all(matches(row) for matches in filters):
            rows.append(row)
    rows.sort(key=lambda row: row[options.sort], reverse=SORTS[options.sort])
    show([json.dumps(rows, indent=2)] if options.json else _table(rows))
    return report_unreadable(unreadable)


def row_of(run: RunResult) -> dict[str, Any]:
    """Return a run's row of the table, with a value for each of COLUMNS."""
    recipe, scores = run.recipe, score(run.split("test"))
    values = {
        **recipe,
        "run": run.folder.name,
        "data_set": recipe["dataset_title"],
        "accuracy": scores["accuracy"],
        "low": scores["accuracy_low"],
        "high": scores["accuracy_high"],
        "log_loss": scores["log_loss"],
        "seconds": run.costs["total_seconds"],
    }
    return {name: values[name] for name in COLUMNS}


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["no finished runs; `headstart run` trains some"]
    cells = [
        [
            format_interval(row["accuracy"], row["low"], row["high"]),
            f"{row['log_loss']:.3f}",
            format_duration(row["seconds"]),
            str(row["seed"]),
            f"{row['image_size']} / {row['input_size']}",
            row["run"],
        ]
        for row in rows
    ]
    return align_columns(
        [["test accuracy", "log loss", "total time", "seed", "image / input px", "run"], *cells]
    )


def _filter(text: str) -> Callable[[dict[str, Any]], bool]:
    """Return the predicate on rows for a filter such as scheme=head:*, accuracy>0.6 or seconds<60."""
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
        raise BadInput(f"--only {text!r}: expected a number after {sign}, received {value!r}") from None
    if name in TEXTS:
        raise BadInput(f"--only {text!r}: {name} is text; filter it with =")
    return lambda row: bool(row[name] < bound if sign == "<" else row[name] > bound)
