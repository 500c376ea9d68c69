"""Delete a finished run with its own reports. Reports that compare it with others are kept.

examples:
  headstart delete head-dense-cifar10-sample      asks before it deletes
  headstart delete head-dense-cifar10-sample --yes
"""

import argparse
import sys

from pipeline.errors import BadInput
from pipeline.formatting import format_bytes
from pipeline.storage import layout
from pipeline.storage.publishing import is_held
from pipeline.upkeep.clean import Leftover, remove
from pipeline.upkeep.inventory import bytes_of
from tasks.commands.shared import RUN_HELP, find_run, show
from tasks.configuration import data_folder


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--yes", action="store_true", help="delete without asking")


def run(options: argparse.Namespace) -> int:
    data, folder = data_folder(), find_run(options.run)
    if any(map(is_held, layout.locks_of_kinds(data, layout.TRAINED_KINDS))):
        raise BadInput(f"{folder.name}: a running command may need it; delete it when that has ended")
    size = bytes_of(folder)
    if not options.yes:
        if not sys.stdin.isatty():
            raise BadInput(f"{folder.name}: add --yes to delete it without being asked")
        question = f"Delete {folder.name} ({format_bytes(size)}) and its reports? [y/N] "
        if input(question).strip().lower() not in ("y", "yes"):
            return show(["nothing was deleted"])
    paths = [path for path in (folder, layout.run_reports(data, folder)) if path.exists()]
    _, in_use = remove(data, [Leftover(path, "", 0) for path in paths])
    if in_use:
        raise BadInput(f"{folder.name}: in use by another process")
    return show([f"deleted {folder.name} ({format_bytes(size)})"])
