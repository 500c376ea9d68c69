"""Classify pictures (PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF; any size and mode) with a finished run.

examples:
  headstart predict head-dense-cifar10-sample photo.jpg holiday/      CSV on the terminal
  headstart predict head-dense-cifar10-sample holiday/ --format json --output out.json

exit codes: 0 all pictures classified, 1 some could not be read (they are listed), 2 bad input
"""

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

from pipeline.backbones.table import weights_name
from pipeline.children import run_in_child
from pipeline.datasets.files import text_of_name
from pipeline.datasets.folders import find_pictures
from pipeline.errors import BadInput
from pipeline.formatting import cell_of
from pipeline.runs.result import needs_weights, read_run
from pipeline.storage import layout
from pipeline.storage.publishing import MANIFEST, check_publishable, publish_text
from tasks.commands.shared import RUN_HELP, find_run, report_unreadable
from tasks.configuration import data_folder
from tasks.progress import ProgressReporter


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="pictures or folders of pictures")
    parser.add_argument("--format", default="csv", choices=("csv", "json"), help="format (default: csv)")
    parser.add_argument("--output", metavar="FILE", help="write to FILE instead of the terminal")


def run(options: argparse.Namespace) -> int:
    folder, paths = find_run(options.run), find_pictures(options.paths)
    if options.output:
        check_publishable(Path(options.output))
    arguments = {"run": str(folder), "weights": weights_of(folder), "paths": paths}
    with ProgressReporter() as progress:
        result = run_in_child("pipeline.use.predict:predict", arguments, progress)
    for row in result["rows"]:
        row["path"] = text_of_name(row["path"])
    text = _as_csv(result["rows"])
    if options.format == "json":
        text = json.dumps(result["rows"], indent=2, ensure_ascii=False) + "\n"
    if options.output:
        publish_text(Path(options.output), text)
    else:
        print(text, end="")
    return report_unreadable(result["unreadable"])


def weights_of(folder: Path) -> str | None:
    """Return the folder of the backbone weights that a run needs, or None if its model includes them."""
    recipe = read_run(folder).recipe
    if not needs_weights(recipe):
        return None
    identity = {name: recipe["fingerprint"]["features"][name] for name in ("backbone", "weights")}
    backbone, name = identity["backbone"], weights_name(identity["weights"])
    weights = layout.keyed_path(data_folder(), f"{layout.folder_of('weights')}/{backbone}-{name}", identity)
    if not (weights / MANIFEST).is_file():
        raise BadInput(
            f"{folder.name}: the backbone weights are missing at {weights}; get them with "
            f"`luigi --module tasks DownloadWeights --backbone {backbone} --weights {name}`"
        )
    return str(weights)


def _as_csv(rows: list[dict[str, Any]]) -> str:
    """Return one line for each picture: its most likely classes with their probabilities."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    most = max((len(row["top"]) for row in rows), default=1)
    places = ["", *(f"_{place}" for place in range(2, most + 1))]
    writer.writerow(["path", *(f"{word}{place}" for place in places for word in ("class", "probability"))])
    for row in rows:
        writer.writerow(map(cell_of, [row["path"], *(value for pair in row["top"] for value in pair)]))
    return file.getvalue()
