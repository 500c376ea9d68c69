"""Check every file that a manifest lists, the costs of extractions, and the pictures of folders, by sha256.

A sample of the cached features is recomputed from their images.

examples:
  headstart verify                                check all files, recompute 64 rows of each view
  headstart verify --sample 0                     check only the files, without running a network
  headstart verify --repair                       move damaged files to data/quarantine/, rebuild features

exit codes: 0 no damage, 1 damage, 2 bad input
"""

import argparse
import time
from typing import Any

from pipeline.datasets.folders import UNREADABLE, WRONG, list_first
from pipeline.errors import BadInput
from pipeline.formatting import align_columns, format_bytes, pluralize
from pipeline.storage.publishing import MANIFEST
from pipeline.upkeep.verify import Verification, repair, verify
from tasks.commands.shared import EXIT_DAMAGED, short_path, show
from tasks.configuration import check_writable, data_folder
from tasks.progress import ProgressReporter

DEFAULT_SAMPLE = 64  # rows of each section of features: half a batch, about a second of work


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    sample = f"rows of each section of features to recompute (default: {DEFAULT_SAMPLE})"
    parser.add_argument("--sample", type=int, default=DEFAULT_SAMPLE, help=sample)
    parser.add_argument("--seed", type=int, default=0, help="seed for choosing the rows (default: 0)")
    parser.add_argument("--repair", action="store_true", help="quarantine damaged files, rebuild features")


def run(options: argparse.Namespace) -> int:
    for name, value in (("sample", options.sample), ("seed", options.seed)):
        if not 0 <= value < 2**31:
            raise BadInput(f"--{name}: expected 0 to 2147483647, received {value}")
    data, sampling = data_folder(), {"sample": options.sample, "seed": options.seed}
    if options.repair and data.exists():
        check_writable()
    with ProgressReporter() as progress:
        result = verify(data, **sampling, progress=progress)
        lines = _lines(result)
        if options.repair and result.damages:
            moved, notes = repair(data, result, stamp=time.strftime("%Y%m%d-%H%M%S"), progress=progress)
            places = [("moved", short_path(old), f"to {short_path(new)}") for old, new in moved]
            lines += ["", *align_columns(places), *(f"repair  {text}" for text in notes)]
            result = verify(data, **sampling, progress=progress)
            lines += ["", "After the repair:", *_lines(result)]
    show(lines)
    wrong = any({WRONG, UNREADABLE} & different.keys() for _, different in result.sources)
    return EXIT_DAMAGED if result.damages or wrong else 0


def _lines(result: Verification) -> list[str]:
    rows = [("rows", short_path(folder), _describe(compared)) for folder, compared in result.compared]
    rows += [("damaged", short_path(damage.path), damage.why) for damage in result.damages]
    for folder, different in result.sources:
        for how, names in different.items():
            rows.append(("source", folder, f"{pluralize(len(names), 'picture')} {how}: {list_first(names)}"))
    unfinished = {entry.folder for entry in result.entries if not (entry.manifest or entry.fault)}
    for path in result.unlisted:
        reason = "no manifest lists it"
        if path.is_symlink():
            reason = "a link; it is not followed"
        elif path.parent in unfinished:
            reason = f"its folder is unfinished: it has no {MANIFEST}"
        rows.append(("unlisted", short_path(path), reason))
    finished = [entry.manifest for entry in result.entries if entry.manifest]
    files = pluralize(sum(len(manifest.files) for manifest in finished), "file")
    size = format_bytes(sum(manifest.bytes for manifest in finished))
    checked = f"{files} in {pluralize(len(finished), 'finished folder')}, {size}"
    verdict = f"{len(result.damages)} damaged" if result.damages else "no damage"
    return [*align_columns(rows), f"{checked}: {verdict}, {len(result.unlisted)} unlisted"]


def _describe(compared: dict[str, Any]) -> str:
    if "refused" in compared:
        return f"rows not recomputed: {compared['refused']}"
    layers = [
        f"{name} {absolute:.1e} (relative {relative:.1e})" if absolute else f"{name} 0"
        for name, (absolute, relative) in compared["layers"].items()
    ]
    return f"{pluralize(compared['rows'], 'row')} recomputed, largest difference: {', '.join(layers)}"
