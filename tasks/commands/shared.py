"""Code that several sub-commands share: exit codes, and looking up a finished run."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.formatting import printable
from pipeline.storage import layout
from pipeline.storage.publishing import MANIFEST, is_file
from tasks.configuration import data_folder

EXIT_DAMAGED, EXIT_FAILED = 1, 30
RUN_HELP = "folder or name of a finished run, or part of its name"


def find_run(text: str) -> Path:
    """Return the folder of a finished run from its path, its name, or the start or a part of its name.

    A whole name wins over a name that starts with the text, and that over one that contains it."""
    path = Path(text)
    if text and is_file(path / MANIFEST):
        return path.resolve()
    runs = {folder.name: folder for folder in layout.finished(data_folder(), "run")}
    return runs[match_name(text, list(runs), "run")]


def match_name(text: str, names: Sequence[str], what: str) -> str:
    """Return the only name that is text, else that starts with it, else that contains it; raise BadInput."""
    matches = [name for name in names if name == text]
    matches = matches or [name for name in names if text and name.startswith(text)]
    matches = matches or [name for name in names if text and text in name]
    if len(matches) == 1:
        return matches[0]
    expected = f"{what} {text!r}: expected a name, or the start or a part of one that is unique"
    if matches:
        raise BadInput(f"{expected}, received that of {len(matches)}: {', '.join(matches[:5])}")
    raise BadInput(f"{expected}; there are: {', '.join(names[:5]) or 'none yet'}")


def short_path(path: Path) -> str:
    """Return a path relative to the data folder."""
    return path.relative_to(data_folder()).as_posix()


def show(lines: Iterable[str]) -> int:
    """Print lines, whatever names are in them, and return the exit code of success."""
    for line in lines:
        print(printable(line))
    return 0


def report_unreadable(errors: list[str]) -> int:
    """Print errors about unreadable files on standard error, and return the exit code."""
    for text in errors:
        print(f"headstart: {printable(text)}", file=sys.stderr)
    return EXIT_DAMAGED if errors else 0
