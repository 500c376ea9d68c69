"""Clear away what neither a preset nor a run needs in the data folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.formatting import aligned, counted, readable_bytes
from pipeline.upkeep.clean import Leftover, Needs, leftovers, remove
from tasks.commands.shared import show
from tasks.commands.why import needs_of, preset_graphs
from tasks.configuration import data_folder

DESCRIPTION = "List what lies in the data folder and neither a preset nor a run needs; remove it with --yes."
EXAMPLES = """examples:
  headstart clean                                 list what no preset and no run needs, with sizes
  headstart clean --yes                           remove just that

Runs and reports that are finished stay, and so does what a person put into data/.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--yes", action="store_true", help="remove what is listed")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return show(clean_lines(data_folder(), agreed=options.yes))


def clean_lines(data: Path, *, agreed: bool) -> list[str]:
    """Return what `headstart clean` prints; nothing is removed unless agreed."""
    found = leftovers(data, needs_of_all_presets())
    kept = [("kept", *_row(data, one)) for one in found.kept]
    if not found.removable:
        return [*aligned(kept), "nothing to clean: presets and runs need all that is there"]
    total = readable_bytes(sum(one.bytes for one in found.removable))
    if not agreed:
        rows = [("unneeded", *_row(data, one)) for one in found.removable]
        what = counted(len(found.removable), "entry")
        return [*aligned(rows + kept), "", f"{what}, {total}; `headstart clean --yes` removes them"]
    gone, busy = remove(data, found.removable)
    rows = [("removed", *_row(data, one)) for one in gone]
    rows += [("kept", *_row(data, one)[:2], "a process works on it") for one in busy]
    freed = readable_bytes(sum(one.bytes for one in gone))
    return [*aligned(rows + kept), "", f"{counted(len(gone), 'entry')} removed, {freed} freed"]


def needs_of_all_presets() -> Needs:
    """Return what any preset needs with its own options or any named weights."""
    return needs_of([root for roots in preset_graphs().values() for root in roots])


def _row(data: Path, one: Leftover) -> tuple[str, str, str]:
    return readable_bytes(one.bytes), _place(data, one.path), one.words


def _place(data: Path, path: Path) -> str:
    return path.relative_to(data).as_posix()
