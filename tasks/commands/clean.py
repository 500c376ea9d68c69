"""List what no preset or run uses in the data folder; remove it with --yes.

examples:
  headstart clean                                 list unused files and folders with their sizes
  headstart clean --yes                           remove them
  headstart clean --keep 20GB --yes               remove cached features as well, above 20 GB in all

Finished runs, reports, and files that you put into data/ yourself are kept. With --keep, feature maps are
removed first, then averaged features, the oldest first; those of a run in progress are kept.
"""

import argparse

from pipeline.formatting import align_columns, format_bytes, parse_bytes, pluralize
from pipeline.upkeep.clean import Leftover, features_above, leftovers, remove
from tasks.commands.shared import short_path, show
from tasks.commands.why import needs_of, preset_graphs
from tasks.configuration import data_folder


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("--yes", action="store_true", help="remove the listed files and folders")
    parser.add_argument("--keep", metavar="SIZE", help="most bytes of cached features to keep, such as 20GB")


def run(options: argparse.Namespace) -> int:
    data, keep = data_folder(), parse_bytes(options.keep) if options.keep else None
    result = leftovers(data, needs_of([root for roots in preset_graphs().values() for root in roots]))
    if keep is not None:
        result += features_above(data, keep, [one.path for one in result if not one.kept])
    kept = [("kept", *_row(one)) for one in result if one.kept]
    removable = [one for one in result if not one.kept]
    if not removable:
        return show([*align_columns(kept), "nothing to clean: presets and runs use everything"])
    unused, busy = remove(data, removable) if options.yes else (removable, [])
    rows = [("removed" if options.yes else "unused", *_row(leftover)) for leftover in unused]
    rows += [("kept", *_row(leftover)[:2], "in use by another process") for leftover in busy]
    count, size = pluralize(len(unused), "entry"), format_bytes(sum(one.bytes for one in unused))
    keep_option = f" --keep {options.keep}" if options.keep else ""
    hint = f"{count}, {size}; `headstart clean{keep_option} --yes` removes them"
    summary = f"{count} removed, {size} freed" if options.yes else hint
    return show([*align_columns(rows + kept), "", summary])


def _row(leftover: Leftover) -> tuple[str, str, str]:
    return format_bytes(leftover.bytes), short_path(leftover.path), leftover.reason
