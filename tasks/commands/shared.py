"""What several sub-commands share: options that choose a preset, exit codes, and finding a stored run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline.backbones.table import BACKBONES, USUAL
from pipeline.errors import BadInput
from pipeline.storage import layout
from pipeline.storage.publishing import MANIFEST
from tasks import CompareSchemes
from tasks.configuration import data_folder

EXIT_DAMAGED, EXIT_FAILED = 1, 30
RUN_HELP = "a run's folder, name, or a part of its name"


def add_graph_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which preset is meant, and on which data."""
    parser.add_argument("--preset", default="demo", help="demo, quick or full (default: demo)")
    parser.add_argument("--dataset", help="data set instead of the preset's: cifar10 or digits")
    parser.add_argument("--subset", type=int, help="images of a stratified subset, 0 for all")
    parser.add_argument("--backbone", default=USUAL, help=f"{', '.join(BACKBONES)} (default: {USUAL})")
    parser.add_argument("--weights", help="imagenet, hed, random, a path, or a URL#sha256=...")
    parser.add_argument("--seeds", help="seeds, such as 0,1,2")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (default: auto)")


def comparison_of(options: argparse.Namespace) -> CompareSchemes:
    """Return the comparison that the options of a preset stand for; raise BadInput."""
    names = ("preset", "dataset", "subset", "backbone", "weights", "precision")
    given = {name: getattr(options, name) for name in names}
    text = options.seeds or ""
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(f"--seeds: expected whole numbers separated by commas, received {text!r}") from None
    return CompareSchemes(**given, seeds=seeds or None)


def find_run(text: str) -> Path:
    """Return the folder of the finished run that text names: a path, a name, or a part of one name alone."""
    place = Path(text)
    if (place / MANIFEST).is_file():
        return place.resolve()
    known = {folder.name: folder for folder in layout.finished(data_folder(), "run")}
    found = [name for name in known if text == name] or [name for name in known if text in name]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise BadInput(f"run {text!r}: expected one run, found {len(found)}: {', '.join(found[:5])}")
    some = ", ".join(list(known)[:5]) or "none yet"
    raise BadInput(f"run {text!r}: expected a folder of a finished run, or a part of its name; known: {some}")


def place_of(path: Path) -> str:
    """Return where a path is below the data folder."""
    return path.relative_to(data_folder()).as_posix()


def show(lines: Iterable[str]) -> int:
    """Print lines and return the exit code of success."""
    for line in lines:
        print(line)
    return 0


def report_unreadable(faults: list[str]) -> int:
    """Print what could not be read on standard error, and return the exit code."""
    for text in faults:
        print(f"headstart: {text}", file=sys.stderr)
    return EXIT_DAMAGED if faults else 0
