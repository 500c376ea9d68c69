"""A folder of pictures as a data set: one sub-folder per class, optionally below train/val/test.

The data set's key comes from the sha256 of every file. An index caches the digests by name, size, time of
modification, and time of change of the inode, which no copy preserves. Files are hashed again when they are
read; a change in between is an error.
"""

import contextlib
import functools
import hashlib
import os
import re
import time
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.files import (
    SUFFIXES,
    entries_of,
    files_below,
    is_picture,
    pictures_below,
    why_unread,
)
from pipeline.datasets.table import FOLDER, Dataset
from pipeline.errors import BadInput, DamagedFile, HeadstartError
from pipeline.formatting import printable
from pipeline.machine import usable_cores
from pipeline.storage.publishing import publish_sealed, read_sealed, sha256_of

SPLIT_WORDS = {"train": ("training",), "val": ("valid", "validation", "dev"), "test": ("testing", "eval")}
SPLIT_FOLDERS = {  # every spelling of a split's folder, in lower case
    f"{word}{end}": split
    for split, words in SPLIT_WORDS.items()
    for word in (split, *words)
    for end in ("", "_set", "-set", "set")
}
LAYOUTS = ("auto", "classes", "splits")  # what the folders of a data set are
UNASSIGNED = 255  # split code of an image whose split the folder does not decide
FITTING = "colors in sRGB, transparency on white, square from the center, bilinear, antialiased (Pillow)"
FOLDER_IMAGE_SIZE = 224  # pixels per side, by default: VGG16's own size
RECENT_NS = 2_000_000_000  # a file modified this recently can change again with the same timestamp
LONGEST_TITLE = 60  # characters in names of folders, which hold the key and the recipe's name as well
LISTED_FILES = 5  # named in a message; the others are counted
# How files can differ from the index of their folder.
MISSING = "missing, the next command prepares the folder without them"
CHANGED = "changed, the next command prepares the folder as it is now"
UNREADABLE = "unreadable, repair or remove them"
WRONG = "damaged (other bytes, the same size and times), restore them"


@dataclass(frozen=True)
class PictureFile:
    """A picture file: name is its POSIX path relative to the folder; split is "" if the folder has none."""

    name: str
    path: Path
    class_name: str
    split: str


def folder_dataset(text: str, index: Path | None, layout: str = "auto") -> Dataset:
    """Return the row of the data set `folder:PATH`; index is the folder that caches digests.

    Raises BadInput if the folder does not exist or has fewer than two classes with pictures.
    """
    root = Path(text.removeprefix(FOLDER)).expanduser().absolute()
    files, identity = _scan(root, index, layout)
    return folder_row(text_of_name(root.resolve().name), identity, len(files))


def folder_row(title: str, identity: str, size: int, note: str = "") -> Dataset:
    """Return the row of a folder data set from its name, the identity of its files and their number."""
    return Dataset(
        name=f"{FOLDER}{title}",
        title=title,
        reader="pipeline.datasets.readers:read_folder",
        source=identity,
        size=size,
        val_fraction=0.1,
        test_fraction=0.2,
        note=note,
        order="pixels",
        image_size=FOLDER_IMAGE_SIZE,
        fitting=FITTING,
    )


def picture_files(root: Path, layout: str = "auto") -> list[PictureFile]:
    """Return the picture files of a folder, sorted by name; raise BadInput for an unexpected layout.

    layout is one of LAYOUTS; "auto" is an error if the folders could be meant as classes or as splits.
    """
    expected = (
        "expected a folder with one sub-folder of pictures for each class, optionally below train/val/test"
    )
    if not root.is_dir():
        problem = "it is a file" if root.exists() else "it does not exist"
        raise BadInput(f"{FOLDER}{root}: {expected}, but {problem}")
    below = [path for path in _folders(root) if any(pictures_below(path))]
    splits = {path: split for path in below if (split := SPLIT_FOLDERS.get(path.name.lower()))}
    others = [path.name for path in below if path not in splits]
    if (
        layout == "auto"
        and splits
        and (others or "train" not in splits.values() or not any(map(_folders, splits)))
    ):
        raise BadInput(
            f"{FOLDER}{root}: the folders {', '.join(path.name for path in splits)} could be splits"
            + (f", without {', '.join(others[:LISTED_FILES])}, " if others else " ")
            + "or classes like any other; choose with --layout splits or --layout classes"
        )
    has_splits = layout == "splits" or (layout == "auto" and bool(splits))
    parents = [*splits.items()] if has_splits else [(root, "")]
    files = [
        PictureFile(_relative_name(root, path), path, text_of_name(folder.name), split)
        for parent, split in parents
        for folder in _folders(parent)
        for path in pictures_below(folder)
    ]
    counts = dict.fromkeys((file.class_name for file in files), 0)
    alike = {unicodedata.normalize("NFC", name).casefold(): name for name in counts}
    if twins := [name for name in counts if alike[unicodedata.normalize("NFC", name).casefold()] != name]:
        raise BadInput(f"{FOLDER}{root}: expected names of classes that differ, found {twins[0]!r} twice")
    for file in files:
        counts[file.class_name] += file.split in ("", "train")
    if len(counts) < 2:
        classes = ", ".join(counts) or "none"
        unread = [f"; {why}" for path in files_below(root) if (why := why_unread(path))]
        found = f"{len(counts)} with pictures ({classes}){''.join(unread[:1])}"
        raise BadInput(f"{FOLDER}{root}: {expected}; found {found}")
    if untrained := [name for name, count in counts.items() if not count]:
        raise BadInput(f"{FOLDER}{root}: expected pictures of every class in train, missing: {untrained}")
    return files


def skipped_entries(root: Path, files: list[PictureFile]) -> list[tuple[str, str]]:
    """Return what is not read as a picture, as (name, why): other files and broken links in folders, empty
    folders, and pictures that are not in the folder of a class.
    """
    pictures = {file.path for file in files}
    split_folders = {root / file.path.relative_to(root).parts[0] for file in files if file.split}
    skipped = []
    for entry in (entry for parent in (root, *sorted(split_folders)) for entry in entries_of(parent)):
        is_folder = entry.is_dir()
        if entry in split_folders:
            continue
        if is_folder and not any(pictures_below(entry)):
            skipped.append((f"{_relative_name(root, entry)}/", "folder contains no pictures"))
        skipped += [
            (_relative_name(root, path), _why_skipped(path))
            for path in (files_below(entry) if is_folder else [entry])
            if path not in pictures and (is_folder or is_picture(path))
        ]
    return skipped


def _why_skipped(path: Path) -> str:
    if not is_picture(path):
        return f"file name has none of {', '.join(SUFFIXES)}"
    return why_unread(path) or ("not in the folder of a class" if path.exists() else "broken link")


def identity_of(digests: dict[str, str]) -> str:
    """Return the identity of a set of files from {name: sha256}; it does not depend on their order."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return f"files by sha256:{hashlib.sha256(lines.encode('utf-8', 'surrogateescape')).hexdigest()}"


def list_first(items: Sequence[str]) -> str:
    """Return the first few of many items as text, and how many more there are."""
    more = len(items) - LISTED_FILES
    return "; ".join([*items[:LISTED_FILES], *([f"and {more} more"] if more > 0 else [])])


def path_name(name: str) -> str:
    """Return a data set's name in a form safe for file names: folder:My photos becomes folder-My_photos."""
    if not name.startswith(FOLDER):
        return name
    title = Path(name.removeprefix(FOLDER)).expanduser().absolute().resolve().name
    return f"folder-{re.sub(r'[^A-Za-z0-9._+-]', '_', title)[:LONGEST_TITLE]}"


def _relative_name(root: Path, path: Path) -> str:
    return text_of_name(path.relative_to(root).as_posix())


def text_of_name(name: str) -> str:
    """Return a file name with bytes that are not UTF-8, and control characters, as escapes."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))


def _folders(parent: Path) -> list[Path]:
    return [path for path in entries_of(parent) if path.is_dir()]


@functools.lru_cache(maxsize=32)
def _scan(root: Path, index: Path | None, layout: str) -> tuple[list[PictureFile], str]:
    """Return the files of a folder and their identity; scanned once per process so that its keys agree."""
    files = picture_files(root, layout)
    path = _index_file(root, index) if index else None
    (_, cached), began = _read_index(path), time.time_ns()
    with ThreadPoolExecutor(usable_cores()) as pool:
        read = pool.map(lambda file: _index_entry(file.path, cached.get(file.name)), files)
        entries = {file.name: entry for file, entry in zip(files, read, strict=True)}
    kept = {
        file.name: entries[file.name]
        for file in files
        if entries[file.name][-1] and max(entries[file.name][1:3]) < began - RECENT_NS
        if root / file.name == file.path  # no character of its name is replaced
    }
    if path and kept != cached:
        with contextlib.suppress(HeadstartError):  # a data folder that cannot be written
            publish_sealed(path, {"folder": str(root), "files": kept})
    return files, identity_of({name: entry[-1] for name, entry in entries.items()})


def check_index(path: Path) -> tuple[str, dict[str, list[str]]]:
    """Hash the files in an index again; return their folder and {how files differ: their names}.

    An index with a wrong digest is removed, so that the next command hashes all files of its folder.
    """
    (folder, entries), different = _read_index(path), defaultdict(list)
    for name, expected in entries.items():
        found = _index_entry(Path(folder, name))
        if not found[-1]:
            different[UNREADABLE if Path(folder, name).exists() else MISSING].append(name)
        elif found[-1] != expected[-1]:
            different[WRONG if found[:-1] == expected[:-1] else CHANGED].append(name)
    if WRONG in different:
        with contextlib.suppress(OSError):  # of a data folder that cannot be written
            path.unlink(missing_ok=True)
    return folder, different


def _index_file(root: Path, index: Path) -> Path:
    return index / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}.json"


def forget_digests(root: Path, index: Path) -> None:
    """Remove the index of a folder, so that the next command hashes all its files again."""
    _index_file(root, index).unlink(missing_ok=True)


def _index_entry(path: Path, cached: list[Any] | None = None) -> list[Any]:
    """Return the size of a file, the times of its modification and change in ns, and its sha256.

    The file is not read if all but the sha256 are those of the cached entry. A file that cannot be read, such
    as a broken link, has the sha256 ""; it is reported later.
    """
    try:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        return cached if cached and cached[:-1] == stamp else [*stamp, sha256_of(path)]
    except OSError:
        return [0, 0, 0, ""]


def _read_index(path: Path | None) -> tuple[str, dict[str, list[Any]]]:
    """Return the folder and the entries of an index; none if it is missing or damaged: it can be rebuilt."""
    try:
        content = read_sealed(path) if path else {}
        folder, entries = content["folder"], content["files"]
        valid = isinstance(folder, str) and all(
            len(entry) == 4 and isinstance(entry[3], str) for entry in entries.values()
        )
    except (DamagedFile, LookupError, TypeError, AttributeError):
        valid = False
    return (folder, entries) if valid else ("", {})
