"""Check every file that a manifest lists by size and sha256, and compute a sample of cached features again
from their images.

examples:
  headstart verify                                every file by sha256, 64 rows of each feature cache anew
  headstart verify --sample 0                     the files only: no network is run
  headstart verify --repair                       damaged files go to data/quarantine/, features are rebuilt

exit codes: 0 all is sound, 1 something is damaged, 2 bad input
"""

from __future__ import annotations

import argparse
import time

from pipeline.errors import BadInput
from pipeline.formatting import align_columns, format_bytes, pluralize, printable
from pipeline.storage.publishing import MANIFEST
from pipeline.upkeep.verify import ComparedRows, Verification, repair, verify
from tasks.commands.shared import EXIT_DAMAGED, place_of, show
from tasks.configuration import data_folder
from tasks.progress import ShownProgress

DEFAULT_SAMPLE = 64  # images of each cache: half a pass, a second's work


def add_options(parser: argparse.ArgumentParser) -> None:
    words = f"rows of each section of features to compute again (default: {DEFAULT_SAMPLE})"
    parser.add_argument("--sample", type=int, default=DEFAULT_SAMPLE, help=words)
    parser.add_argument("--seed", type=int, default=0, help="seed that draws the rows (default: 0)")
    parser.add_argument("--repair", action="store_true", help="put damaged files aside and rebuild features")


def run(options: argparse.Namespace) -> int:
    for name, value in (("sample", options.sample), ("seed", options.seed)):
        if not 0 <= value < 2**31:
            raise BadInput(f"--{name}: expected 0 to 2147483647, received {value}")
    data, drawn = data_folder(), {"sample": options.sample, "seed": options.seed}
    with ShownProgress() as progress:
        found = verify(data, **drawn, progress=progress)
        lines = _lines(found)
        if options.repair and found.damages:
            done = repair(data, found, stamp=time.strftime("%Y%m%d-%H%M%S"), progress=progress)
            moved = [("moved", place_of(old), f"to {place_of(new)}") for old, new in done.moved]
            lines += ["", *align_columns(moved), *(f"repair  {printable(words)}" for words in done.words)]
            found = verify(data, **drawn, progress=progress)
            lines += ["", "After the repair:", *_lines(found)]
    show(lines)
    return EXIT_DAMAGED if found.damages else 0


def _lines(found: Verification) -> list[str]:
    rows = [("rows", place_of(one.folder), _on_rows(one)) for one in found.compared]
    rows += [("damaged", place_of(damage.path), damage.why) for damage in found.damages]
    unfinished = {entry.folder for entry in found.entries if not (entry.manifest or entry.fault)}
    for path in found.unlisted:
        reason = "no manifest lists it"
        if path.is_symlink():
            reason = "a link; it is not followed"
        elif path.parent in unfinished:
            reason = f"its folder is unfinished: it has no {MANIFEST}"
        rows.append(("unlisted", place_of(path), reason))
    finished = [entry.manifest for entry in found.entries if entry.manifest]
    files = pluralize(sum(len(manifest.files) for manifest in finished), "file")
    size = format_bytes(sum(manifest.bytes for manifest in finished))
    what = f"{files} of {pluralize(len(finished), 'finished folder')}, {size}"
    verdict = f"{len(found.damages)} damaged" if found.damages else "all sound"
    return [*align_columns(rows), f"{what}: {verdict}, {len(found.unlisted)} not listed"]


def _on_rows(one: ComparedRows) -> str:
    if one.refused:
        return f"rows were not recomputed: {one.refused}"
    layers = [
        f"{name} {absolute:.1e} (relative {relative:.1e})" if absolute else f"{name} 0"
        for name, (absolute, relative) in one.layers.items()
    ]
    return f"{pluralize(one.rows, 'row')} recomputed, largest difference: {', '.join(layers)}"
