"""Classify pictures with a finished run."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.children import run_in_child
from pipeline.storage.publishing import publish_text
from pipeline.use.predict import SHOWN, find_pictures
from tasks.commands.shared import RUN_HELP, find_run, report_unreadable
from tasks.commands.weights import weights_of
from tasks.progress import ShownProgress

DESCRIPTION = "Classify pictures (PNG, JPEG, WebP, BMP, GIF; any size and mode) with a finished run."
EXAMPLES = """examples:
  headstart predict fine-tune-whole-cifar10-hed photo.jpg holiday/      CSV on the terminal
  headstart predict fine-tune-whole-cifar10-hed holiday/ --format json --output answers.json

exit codes: 0 all is classified, 1 some pictures could not be read (they are named), 2 bad input
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="pictures, and folders of pictures")
    parser.add_argument("--format", default="csv", choices=("csv", "json"), help="(default: csv)")
    parser.add_argument("--output", metavar="FILE", help="a file to write instead of the terminal")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    text, unreadable = predict_text(options.run, options.paths, form=options.format)
    if options.output:
        publish_text(Path(options.output), text)
    else:
        print(text, end="")
    return report_unreadable([why for _, why in unreadable])


def predict_text(text: str, places: Sequence[str], *, form: str) -> tuple[str, list[list[str]]]:
    """Return the answers of a run for pictures, as csv or json, and [path, why] of unreadable ones."""
    folder, paths = find_run(text), find_pictures(places)
    weights = weights_of(folder)
    with ShownProgress(None) as progress:
        found = run_in_child(
            "pipeline.use.predict:predict", {"run": str(folder), "weights": weights, "paths": paths}, progress
        )
    if form == "json":
        return json.dumps(found["rows"], indent=2, ensure_ascii=False) + "\n", found["unreadable"]
    file = io.StringIO()
    places_of = range(1, SHOWN + 1)
    header = ["path"] + [f"{word}_{place}" for place in places_of for word in ("class", "probability")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "class", "probability", *header[3:]])
    for row in found["rows"]:
        writer.writerow([row["path"], *(value for pair in row["top"] for value in pair)])
    return file.getvalue(), found["unreadable"]
