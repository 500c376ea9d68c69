"""Check the data folder, and repair it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.formatting import aligned, counted, plain, readable_bytes
from pipeline.progress import Progress
from pipeline.storage.publishing import MANIFEST
from pipeline.upkeep.verify import ComparedRows, Verification, repair, verify
from tasks.commands.shared import EXIT_DAMAGED, show
from tasks.configuration import data_folder
from tasks.progress import ShownProgress

DESCRIPTION = (
    "Check every file that a manifest lists by size and sha256, and compute a sample of cached features "
    "again from their images."
)
EXAMPLES = """examples:
  headstart verify                                every file by sha256, 64 rows of each feature cache anew
  headstart verify --sample 0                     the files only: no network is run
  headstart verify --repair                       damaged files go to data/quarantine/, features are rebuilt

exit codes: 0 all is sound, 1 something is damaged, 2 bad input
"""


DEFAULT_SAMPLE = 64  # images of each cache: half a pass, a second's work


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    words = f"rows of each section of features to compute again (default: {DEFAULT_SAMPLE})"
    parser.add_argument("--sample", type=int, default=DEFAULT_SAMPLE, help=words)
    parser.add_argument("--seed", type=int, default=0, help="seed that draws the rows (default: 0)")
    parser.add_argument("--repair", action="store_true", help="put damaged files aside and rebuild features")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    for name, value in (("sample", options.sample), ("seed", options.seed)):
        if not 0 <= value < 2**31:
            raise BadInput(f"--{name}: expected 0 to 2147483647, received {value}")
    with ShownProgress(None) as progress:
        lines, sound = verify_lines(
            data_folder(), sample=options.sample, seed=options.seed, mend=options.repair, progress=progress
        )
    show(lines)
    return 0 if sound else EXIT_DAMAGED


def verify_lines(
    data: Path, *, sample: int, seed: int, mend: bool, progress: Progress
) -> tuple[list[str], bool]:
    """Return what `headstart verify` prints, and whether all is sound; with mend after a repair."""
    found = verify(data, sample=sample, seed=seed, progress=progress)
    lines = _verification_lines(data, found)
    if not (mend and found.damages):
        return lines, not found.damages
    done = repair(data, found, stamp=time.strftime("%Y%m%d-%H%M%S"), progress=progress)
    moved = [("moved", _place(data, source), f"to {_place(data, target)}") for source, target in done.moved]
    lines += ["", *aligned(moved), *(f"repair  {plain(words)}" for words in done.words)]
    again = verify(data, sample=sample, seed=seed, progress=progress)
    return [*lines, "", "After the repair:", *_verification_lines(data, again)], not again.damages


def _verification_lines(data: Path, found: Verification) -> list[str]:
    rows = [("rows", _place(data, one.folder), _on_rows(one)) for one in found.compared]
    for damage in found.damages:
        rows.append(("damaged", _place(data, damage.path), damage.why))
    unfinished = {entry.folder for entry in found.entries if not (entry.manifest or entry.fault)}
    for path in found.unlisted:
        reason = "no manifest lists it"
        if path.is_symlink():
            reason = "a link; it is not followed"
        elif path.parent in unfinished:
            reason = f"its folder is unfinished: it has no {MANIFEST}"
        rows.append(("unlisted", _place(data, path), reason))
    finished = [entry for entry in found.entries if entry.manifest]
    files = sum(len(entry.manifest.files) for entry in finished)
    size = readable_bytes(sum(entry.manifest.bytes for entry in finished))
    what = f"{counted(files, 'file')} of {counted(len(finished), 'finished folder')}, {size}"
    verdict = f"{len(found.damages)} damaged" if found.damages else "all sound"
    return [*aligned(rows), f"{what}: {verdict}, {len(found.unlisted)} not listed"]


def _on_rows(one: ComparedRows) -> str:
    if one.refused:
        return f"rows were not recomputed: {one.refused}"
    layers = [
        f"{name} {absolute:.1e} (relative {relative:.1e})" if absolute else f"{name} 0"
        for name, (absolute, relative) in one.layers.items()
    ]
    return f"{counted(one.rows, 'row')} recomputed, largest difference: {', '.join(layers)}"


def _place(data: Path, path: Path) -> str:
    return path.relative_to(data).as_posix()
