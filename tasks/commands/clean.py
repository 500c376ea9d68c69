"""List what lies in the data folder and neither a preset nor a run needs; remove it with --yes.

examples:
  headstart clean                                 list what no preset and no run needs, with sizes
  headstart clean --yes                           remove just that

Runs and reports that are finished stay, and so does what a person put into data/.
"""

from __future__ import annotations

import argparse

from pipeline.formatting import align_columns, format_bytes, pluralize
from pipeline.upkeep.clean import Leftover, leftovers, remove
from tasks.commands.shared import place_of, show
from tasks.commands.why import needs_of, preset_graphs
from tasks.configuration import data_folder


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="remove what is listed")


def run(options: argparse.Namespace) -> int:
    data = data_folder()
    found = leftovers(data, needs_of([root for roots in preset_graphs().values() for root in roots]))
    kept = [("kept", *_row(one)) for one in found.kept]
    if not found.removable:
        return show([*align_columns(kept), "nothing to clean: presets and runs need all that is there"])
    some, busy = remove(data, found.removable) if options.yes else (found.removable, [])
    rows = [("removed" if options.yes else "unneeded", *_row(one)) for one in some]
    rows += [("kept", *_row(one)[:2], "a process works on it") for one in busy]
    count, size = pluralize(len(some), "entry"), format_bytes(sum(one.bytes for one in some))
    words = f"{count}, {size}; `headstart clean --yes` removes them"
    if options.yes:
        words = f"{count} removed, {size} freed"
    return show([*align_columns(rows + kept), "", words])


def _row(one: Leftover) -> tuple[str, str, str]:
    return format_bytes(one.bytes), place_of(one.path), one.words
