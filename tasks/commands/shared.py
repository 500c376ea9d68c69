"""Code that several sub-commands share: preset options, exit codes, and looking up a finished run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline.backbones.engines import DEFAULT_ENGINE, ENGINES
from pipeline.backbones.table import BACKBONES, DEFAULT_BACKBONE
from pipeline.errors import BadInput
from pipeline.storage import layout
from pipeline.storage.publishing import MANIFEST
from tasks import CompareSchemes
from tasks.configuration import data_folder

EXIT_DAMAGED, EXIT_FAILED = 1, 30
RUN_HELP = "folder or name of a finished run, or part of its name"


def add_graph_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a preset and override its data, weights and seeds."""
    parser.add_argument("--preset", default="demo", help="demo, quick or full (default: demo)")
    parser.add_argument(
        "--dataset", help="cifar10, cifar10-sample, cifar100, digits or folder:PATH (default: the preset's)"
    )
    parser.add_argument("--subset", type=int, help="images in a stratified subset, 0 for all")
    backbones = f"{', '.join(BACKBONES)} (default: {DEFAULT_BACKBONE})"
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE, help=backbones)
    parser.add_argument("--weights", help="imagenet, random, random:SEED, or the path of a file")
    parser.add_argument(
        "--image-size", type=int, help="pixels per side at which a folder's pictures are kept"
    )
    parser.add_argument("--input-size", type=int, help="pixels per side that networks see")
    engines = f"{', '.join(ENGINES)} (default: {DEFAULT_ENGINE})"
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help=engines)
    parser.add_argument("--seeds", help="seeds, such as 0,1,2")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (default: auto)")


def comparison_of(options: argparse.Namespace) -> CompareSchemes:
    """Return the comparison that the graph options describe. Raises BadInput."""
    names = ("preset", "dataset", "subset", "backbone", "weights", "image_size", "input_size", "precision")
    parameters = {name: getattr(options, name) for name in (*names, "engine")}
    text = options.seeds or ""
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(f"--seeds: expected whole numbers separated by commas, received {text!r}") from None
    return CompareSchemes(**parameters, seeds=seeds or None)


def find_run(text: str) -> Path:
    """Return the folder of a finished run from its path, its name, or a part of its name that is unique."""
    path = Path(text)
    if (path / MANIFEST).is_file():
        return path.resolve()
    runs = {folder.name: folder for folder in layout.finished(data_folder(), "run")}
    matches = [name for name in runs if text == name] or [name for name in runs if text in name]
    if len(matches) == 1:
        return runs[matches[0]]
    if matches:
        raise BadInput(
            f"run {text!r}: expected one run, received the name of {len(matches)}: {', '.join(matches[:5])}"
        )
    some = ", ".join(list(runs)[:5]) or "none yet"
    raise BadInput(
        f"run {text!r}: expected the folder of a run, its name, or part of its name; finished runs: {some}"
    )


def short_path(path: Path) -> str:
    """Return a path relative to the data folder."""
    return path.relative_to(data_folder()).as_posix()


def show(lines: Iterable[str]) -> int:
    """Print lines and return the exit code of success."""
    for line in lines:
        print(line)
    return 0


def report_unreadable(errors: list[str]) -> int:
    """Print errors about unreadable files on standard error, and return the exit code."""
    for text in errors:
        print(f"headstart: {text}", file=sys.stderr)
    return EXIT_DAMAGED if errors else 0
