"""Write a run's whole network, raw pixels in, as one .keras file with class names and a model card; refused
unless it gives the run's own answers.

examples:
  headstart export head-dense-cifar10-hed model.keras
  headstart export head-dense-cifar10-hed model.keras --format keras,saved_model,tflite
"""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.children import run_in_child
from pipeline.errors import BadInput
from pipeline.runs.result import read_run
from pipeline.storage import layout
from pipeline.storage.publishing import read_manifest
from pipeline.use.export import check_target
from tasks.commands.predict import weights_of
from tasks.commands.shared import RUN_HELP, find_run, show
from tasks.configuration import data_folder
from tasks.progress import ShownProgress
from tasks.reproducing import dataset_folders, dataset_text


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("out", metavar="OUT", help="the .keras file to write")
    words = "some of keras, saved_model, tflite by commas (default: keras)"
    parser.add_argument("--format", default="keras", help=words)


def run(options: argparse.Namespace) -> int:
    formats = [part.strip() for part in options.format.split(",") if part.strip()]
    check_target(options.out, formats)
    folder = find_run(options.run)
    recipe = read_run(folder).recipe
    told = {"run": str(folder), "weights": weights_of(folder), "dataset": _dataset_of(recipe)}
    with ShownProgress() as progress:
        order = {**told, "out": options.out, "formats": formats}
        found = run_in_child("pipeline.use.export:export", order, progress)
    show(f"{kind}: parity on {said}" for kind, said in found["parity"].items())
    return show(f"wrote {path}" for path in found["files"])


def _dataset_of(recipe: dict[str, Any]) -> str:
    found = list(dataset_folders(data_folder(), [recipe]).values())
    if not found:
        raise BadInput(
            f"the data set {recipe['dataset']} of this run is not in "
            f"{data_folder() / layout.folder_of('dataset')}; prepare it with `luigi --module tasks "
            f"PrepareDataset --dataset {dataset_text(recipe['dataset'])}`"
        )
    read_manifest(found[0])
    return str(found[0])
