"""List finished runs of each data set with accuracy, time, and the settings in which runs of a recipe differ.

examples:
  headstart runs                                  all finished runs, the most accurate on val first
  headstart runs cifar10 --sort seconds           runs with cifar10 in their name, the fastest first
  headstart runs --only 'scheme=head:*' --only 'accuracy>0.6' --json
"""

import argparse
import fnmatch
import json
from collections.abc import Callable
from typing import Any

import pandas as pd

from pipeline.errors import BadInput, DamagedFile
from pipeline.formatting import align_columns, format_duration, format_share, format_value
from pipeline.results.scores import result_row
from pipeline.runs.result import RunResult, differing_settings, read_run
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from tasks.commands.shared import report_unreadable, show
from tasks.configuration import data_folder

TEXTS = ("run", "scheme", "weights", "data_set", "differs")
ACCURACIES = ("accuracy", "accuracy_low", "accuracy_high")
VAL_ACCURACIES = tuple(f"val_{name}" for name in ACCURACIES)
SHARES = (*VAL_ACCURACIES, *ACCURACIES, "balanced_accuracy")
NUMBERS = ("image_size", "input_size", "seed", *SHARES, "log_loss", "seconds")
COLUMNS = (*TEXTS, *NUMBERS)
# Whether the highest value is first.
SORTS = {"val_accuracy": True, "accuracy": True, "balanced_accuracy": True}
SORTS |= {"log_loss": False, "seconds": False, "run": False}


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("pattern", nargs="?", default="", help="part of the run's name (default: all)")
    parser.add_argument("--sort", default="val_accuracy", help=f"{', '.join(SORTS)} (default: val_accuracy)")
    filters = "such as scheme=head:*, accuracy>0.6 or seconds<60; can be repeated"
    parser.add_argument("--only", action="append", default=[], metavar="FILTER", help=filters)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    if options.sort not in SORTS:
        raise BadInput(f"--sort: expected one of {', '.join(SORTS)}, received {options.sort!r}")
    filters, runs, unreadable = [_filter(text) for text in options.only], [], []
    for folder in layout.finished(data_folder(), "run"):
        if options.pattern not in folder.name:
            continue
        try:
            run = read_run(folder)
        except DamagedFile as error:
            unreadable.append(str(error))
            continue
        if all(matches(row_of(run)) for matches in filters):
            runs.append(run)
    differing = differing_settings(runs, {"seed": " (seed)", "input_size": " px input"})
    table = pd.DataFrame([row_of(run) for run in runs], columns=COLUMNS).assign(differs=differing)
    keys = [key_of(run.recipe["fingerprint"].get("dataset")) for run in runs]
    order = {"data_set": True, "key": True, options.sort: not SORTS[options.sort]}  # without a value: last
    table = table.assign(key=keys).sort_values([*order], ascending=[*order.values()], kind="stable")
    rows = table[[*COLUMNS]].to_dict("records")
    show(json.dumps(rows, indent=2).replace(": NaN", ": null").splitlines() if options.json else _table(rows))
    return report_unreadable(unreadable)


def row_of(run: RunResult) -> dict[str, Any]:
    """Return a run's row of the table, with a value for each of COLUMNS but differs."""
    values = {**result_row(run), "differs": "", "seconds": run.costs["total_seconds"]}
    return {name: values[name] for name in COLUMNS}


def _table(rows: list[Any]) -> list[str]:
    if not rows:
        return ["no finished runs; `headstart run` trains some"]
    cells = [["data set", "image / input px", "val", "test accuracy", "total time", "run", "differs in"]]
    for row in rows:
        data = [row["data_set"], f"{row['image_size']} / {row['input_size']}"]
        results = [format_value(row["val_accuracy"], "%"), format_share(row, "accuracy")]
        cells.append([*data, *results, format_duration(row["seconds"]), row["run"], row["differs"]])
    return align_columns(cells)


def _filter(text: str) -> Callable[[dict[str, Any]], bool]:
    """Return the predicate on rows for a filter such as scheme=head:*, accuracy>0.6 or seconds<60."""
    sign = next((sign for sign in "=<>" if sign in text), None)
    if sign is None:
        raise BadInput(f"--only {text!r}: expected a filter such as scheme=head:* or accuracy>0.6")
    name, _, value = text.partition(sign)
    if name not in (columns := [column for column in COLUMNS if column != "differs"]):
        raise BadInput(f"--only {text!r}: expected one of {', '.join(columns)} before {sign}")
    if sign == "=":
        return lambda row: fnmatch.fnmatchcase(str(row[name]), value)
    try:
        bound = float(value)
    except ValueError:
        raise BadInput(f"--only {text!r}: expected a number after {sign}, received {value!r}") from None
    if name in TEXTS:
        raise BadInput(f"--only {text!r}: {name} is text; filter it with =")
    return lambda row: bool(row[name] < bound if sign == "<" else row[name] > bound)
