"""Export a run as a standalone model that takes raw pixels, with class names and a model card. The export
fails unless the model reproduces the run's stored predictions.

examples:
  headstart export head-dense-cifar10-sample model.keras
  headstart export head-dense-cifar10-sample model.keras --format keras,saved_model,tflite
"""

import argparse
from pathlib import Path
from typing import Any

from pipeline.children import run_in_child
from pipeline.errors import BadInput
from pipeline.runs.result import read_run
from pipeline.storage import layout
from tasks.commands.predict import weights_of
from tasks.commands.shared import RUN_HELP, find_run, show
from tasks.configuration import data_folder
from tasks.progress import ProgressReporter
from tasks.reproducing import dataset_folders, dataset_text


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("out", metavar="OUT", help="the .keras file to write")
    formats = "keras, saved_model, tflite, or several separated by commas (default: keras)"
    parser.add_argument("--format", default="keras", help=formats)


def run(options: argparse.Namespace) -> int:
    formats = [part.strip() for part in options.format.split(",") if part.strip()]
    folder = find_run(options.run)
    sources = {"run": folder, "weights": weights_of(folder), "dataset": _dataset_of(read_run(folder).recipe)}
    with ProgressReporter() as progress:
        arguments = {**sources, "out": options.out, "formats": formats}
        result = run_in_child("pipeline.use.export:export", arguments, progress)
    show(f"{kind}: parity on {details}" for kind, details in result["parity"].items())
    return show(f"wrote {path}" for path in result["files"])


def _dataset_of(recipe: dict[str, Any]) -> Path:
    folders = list(dataset_folders(data_folder(), [recipe]).values())
    if not folders:
        raise BadInput(
            f"{data_folder() / layout.folder_of('dataset')}: this run's data set {recipe['dataset']} is "
            f"missing; prepare it with `luigi --module tasks "
            f"PrepareDataset --dataset {dataset_text(recipe['dataset'])} --image-size {recipe['image_size']}`"
        )
    return folders[0]
