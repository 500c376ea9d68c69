"""Classify pictures (PNG, JPEG, WebP, BMP, GIF; any size and mode) with a finished run.

examples:
  headstart predict fine-tune-whole-cifar10-hed photo.jpg holiday/      CSV on the terminal
  headstart predict fine-tune-whole-cifar10-hed holiday/ --format json --output answers.json

exit codes: 0 all is classified, 1 some pictures could not be read (they are named), 2 bad input
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

from pipeline.children import run_in_child
from pipeline.errors import BadInput
from pipeline.runs.result import read_run
from pipeline.storage import layout
from pipeline.storage.publishing import MANIFEST, publish_text
from pipeline.use.network import needs_weights
from pipeline.use.predict import SHOWN, find_pictures
from tasks.commands.shared import RUN_HELP, find_run, report_unreadable
from tasks.configuration import data_folder
from tasks.progress import ShownProgress


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="pictures, and folders of pictures")
    parser.add_argument("--format", default="csv", choices=("csv", "json"), help="(default: csv)")
    parser.add_argument("--output", metavar="FILE", help="a file to write instead of the terminal")


def run(options: argparse.Namespace) -> int:
    folder, paths = find_run(options.run), find_pictures(options.paths)
    told = {"run": str(folder), "weights": weights_of(folder), "paths": paths}
    with ShownProgress() as progress:
        found = run_in_child("pipeline.use.predict:predict", told, progress)
    if options.format == "json":
        text = json.dumps(found["rows"], indent=2, ensure_ascii=False) + "\n"
    else:
        text = _as_csv(found["rows"])
    if options.output:
        publish_text(Path(options.output), text)
    else:
        print(text, end="")
    return report_unreadable([why for _, why in found["unreadable"]])


def weights_of(folder: Path) -> str | None:
    """Return the folder of the weights that a run needs to be whole, None where it needs none."""
    recipe = read_run(folder).recipe
    if not needs_weights(recipe):
        return None
    features = recipe["fingerprint"]["features"]
    wanted = {"backbone": features["backbone"], **features["weights"]}
    place = layout.keyed(data_folder(), layout.weights_place(wanted["backbone"], wanted["name"]), wanted)
    if not (place / MANIFEST).is_file():
        raise BadInput(
            f"{folder.name}: its backbone's weights are not at {place}; get them with `luigi --module tasks "
            f"DownloadWeights --backbone {wanted['backbone']} --weights {wanted['name']}`"
        )
    return str(place)


def _as_csv(rows: list[dict[str, Any]]) -> str:
    """Return a line for each picture: the likeliest class and its probability, then the next ones."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    places = ["", *(f"_{place}" for place in range(2, SHOWN + 1))]
    writer.writerow(["path", *(f"{word}{place}" for place in places for word in ("class", "probability"))])
    for row in rows:
        writer.writerow([row["path"], *(value for pair in row["top"] for value in pair)])
    return file.getvalue()
