"""Write a run as a model that needs nothing of this project."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.children import run_in_child
from pipeline.errors import BadInput
from pipeline.runs.result import read_run
from pipeline.storage.publishing import read_manifest
from pipeline.use.export import check_target
from tasks.commands.shared import RUN_HELP, find_run, show
from tasks.commands.weights import weights_of
from tasks.configuration import data_folder
from tasks.progress import ShownProgress
from tasks.reproducing import dataset_folders, dataset_text

DESCRIPTION = (
    "Write a run's whole network, raw pixels in, as one .keras file with class names and a model card; "
    "refused unless it gives the run's own answers."
)
EXAMPLES = """examples:
  headstart export head-dense-cifar10-hed model.keras
  headstart export head-dense-cifar10-hed model.keras --format keras,saved_model,tflite
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("out", metavar="OUT", help="the .keras file to write")
    words = "some of keras, saved_model, tflite by commas (default: keras)"
    parser.add_argument("--format", default="keras", help=words)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    formats = [part.strip() for part in options.format.split(",") if part.strip()]
    return show(export_lines(options.run, options.out, formats))


def export_lines(text: str, out: str, formats: list[str]) -> list[str]:
    """Export a run; return what was written, and how it compares with the run's own answers."""
    check_target(out, formats)
    folder = find_run(text)
    recipe = read_run(folder).recipe
    told = {
        "run": str(folder),
        "weights": weights_of(folder),
        "dataset": str(_dataset_of(recipe)),
        "out": out,
    }
    with ShownProgress(None) as progress:
        found = run_in_child("pipeline.use.export:export", {**told, "formats": formats}, progress)
    lines = [f"{kind}: parity on {said}" for kind, said in found["parity"].items()]
    return [*lines, *(f"wrote {path}" for path in found["files"])]


def _dataset_of(recipe: dict) -> Path:
    found = list(dataset_folders(data_folder(), [recipe]).values())
    if not found:
        raise BadInput(
            f"the data set {recipe['dataset']} of this run is not in {data_folder() / 'datasets'}; prepare "
            f"it with `luigi --module tasks PrepareDataset --dataset {dataset_text(recipe['dataset'])}`"
        )
    read_manifest(found[0])
    return found[0]
