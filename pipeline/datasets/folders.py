"""Pictures as a data set: a folder with a sub-folder per class, optionally below train/val/test, or a table.

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
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.datasets.files import (
    ARRAYS,
    FORMATS,
    SPLIT_NAMES,
    SUFFIXES,
    PictureFile,
    check_class_names,
    entries_of,
    files_below,
    is_picture,
    pictures_below,
    split_in,
    text_of_name,
    why_unread,
)
from pipeline.datasets.label_table import read_table, table_files
from pipeline.datasets.table import FOLDER, LARGEST_IMAGE, PICTURES, SMALLEST_IMAGE, TABLES, Dataset
from pipeline.errors import BadInput, DamagedFile, HeadstartError
from pipeline.extensions import resolve
from pipeline.formatting import printable
from pipeline.machine import usable_cores
from pipeline.storage.publishing import publish_sealed, read_sealed, sha256_of

LAYOUTS = ("auto", "classes", "splits")  # what the folders of a data set are
UNASSIGNED = 255  # split code of an image whose split the folder does not decide
EXPECTED_FOLDER = (
    "expected a folder with one sub-folder of pictures for each class, optionally below train/val/test"
)
EXPECTED_TABLE = "expected a CSV or Parquet file with the columns path and label, or a file of arrays (.npz)"
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


def folder_dataset(text: str, index: Path | None, layout: str = "auto") -> Dataset:
    """Return the row of a data set such as `folder:PATH` or `csv:PATH`; index is the folder of digests.

    Raises BadInput if the path is not that of a folder or a table with two or more classes of pictures.
    """
    root, size = _checked_path(text), FOLDER_IMAGE_SIZE
    files, identity = _scan(root, index, layout)
    if files[0].row:  # arrays, of which those that fit keep their pixels
        size = min(max(resolve("pipeline.datasets.arrays:smaller_side")(root), SMALLEST_IMAGE), LARGEST_IMAGE)
    return folder_row(_short_name(text), identity, len(files), image_size=size)


def source_path(text: str) -> Path | None:
    """Return the folder or table that a data set's name gives, None for a named data set."""
    path = text.partition(":")[2]
    return Path(path).expanduser().absolute() if text.startswith(PICTURES) else None


def _checked_path(text: str) -> Path:
    root, is_folder = source_path(text), text.startswith(FOLDER)
    if root is None or not text.partition(":")[2]:
        raise BadInput(f"{text}: {EXPECTED_FOLDER if is_folder else EXPECTED_TABLE}, received no path")
    if root.is_dir() != is_folder or not root.exists():
        expected = EXPECTED_FOLDER if is_folder else EXPECTED_TABLE
        problem = f"it is a {'file' if is_folder else 'folder'}" if root.exists() else "it does not exist"
        raise BadInput(f"{text.partition(':')[0]}:{root}: {expected}, but {problem}")
    return root


def folder_row(
    name: str, identity: str, size: int, note: str = "", image_size: int = FOLDER_IMAGE_SIZE
) -> Dataset:
    """Return the row of a data set of pictures from its name, the identity of its files and their number."""
    return Dataset(
        name=name,
        title=name.partition(":")[2],
        reader="pipeline.datasets.readers:read_folder",
        source=identity,
        size=size,
        val_fraction=0.1,
        test_fraction=0.2,
        note=note,
        order="pixels",
        image_size=image_size,
        fitting=FITTING,
    )


def picture_files(root: Path, layout: str = "auto") -> list[PictureFile]:
    """Return the picture files of a folder or a table, sorted by name.

    layout is one of LAYOUTS; "auto" is an error if the folders could be meant as classes or as splits.
    Raises BadInput for an unexpected layout or table, or if a class has no pictures to train on.
    """
    if not root.exists():
        raise BadInput(f"{root}: expected pictures, but it does not exist")
    files = table_files(root) if root.is_file() else _files_of_folder(root, layout)
    counts, paths = dict.fromkeys((file.class_name for file in files), 0), dict[str, Path]()
    for file in files:
        if paths.setdefault(file.name, file.path) != file.path:
            raise BadInput(f"{root}: expected names that differ, found two pictures shown as {file.name!r}")
        counts[file.class_name] += file.split in ("", "train") and file.weight > 0
    if len(counts) < 2:
        classes = ", ".join(counts) or "none"
        others = [] if root.is_file() else files_below(root)
        unread = [f"; {why}" for path in others if (why := why_unread(path))]
        found = f"{len(counts)} with pictures ({classes}){''.join(unread[:1])}"
        expected = "expected two classes or more" if root.is_file() else EXPECTED_FOLDER
        raise BadInput(f"{root}: {expected}; found {found}")
    if untrained := [name for name, count in counts.items() if not count]:
        raise BadInput(f"{root}: expected pictures of every class in train, missing: {untrained}")
    return files


def _files_of_folder(root: Path, layout: str) -> list[PictureFile]:
    below = [path for path in _folders(root) if any(pictures_below(path))]
    splits = {path: split for path in below if (split := split_in(path.name))}
    exact = [path for path in splits if path.name.lower() in SPLIT_NAMES]
    if layout == "auto" and not exact and len(set(splits.values())) < 2:
        splits = {}  # classes such as test tube
    others = [path.name for path in below if path not in splits]
    unsure = others or len(exact) < len(splits) or "train" not in splits.values()
    if layout == "auto" and splits and (unsure or not any(map(_folders, splits))):
        raise BadInput(
            f"{FOLDER}{root}: the folders {', '.join(path.name for path in splits)} could be splits"
            + (f", without {', '.join(others[:LISTED_FILES])}, " if others else " ")
            + "or classes like any other; choose with --layout splits or --layout classes"
        )
    has_splits = layout == "splits" or (layout == "auto" and bool(splits))
    parents = [*splits.items()] if has_splits else [(root, "")]
    folders = [(folder, split) for parent, split in parents for folder in _folders(parent)]
    for folder in below if layout == "auto" and not has_splits else []:
        names = [path.name for path in _folders(folder) if path.name.lower() in SPLIT_NAMES]
        if len({SPLIT_NAMES[name.lower()] for name in names}) > 1:
            raise BadInput(
                f"{FOLDER}{root}: the folders {', '.join(names)} in {text_of_name(folder.name)} could be "
                "splits; put the classes into the splits, list the pictures in a table with a column split, "
                "or read them as one class with --layout classes"
            )
    files = [
        PictureFile(_relative_name(root, path), path, text_of_name(folder.name), split)
        for folder, split in folders
        for path in pictures_below(folder)
    ]
    check_class_names(root, [file.path.relative_to(root).parts[has_splits] for file in files])
    return files


def find_pictures(names: Sequence[str]) -> list[str]:
    """Return the paths of pictures in folders, in tables and of named files of any extension.

    Pictures of formats that are not read are among them; decode_picture says what to do about them. Raises
    BadInput if there are none.
    """
    pictures: list[str] = []
    for name in names:
        path = Path(name)
        if name.startswith(TABLES):
            table = _checked_path(name)
            if table.suffix == ARRAYS:
                advice = f"embed arrays with --dataset {name}, classify them with headstart.load_model"
                raise BadInput(f"{name}: expected pictures or a table of their paths; {advice}")
            pictures += [str(table.parent / row["path"]) for row in read_table(table)]
        elif path.is_dir() and name:
            pictures += [str(file) for file in files_below(path) if is_picture(file)]
        elif path.is_file():
            pictures.append(str(path))
        else:
            raise BadInput(f"{name!r}: expected a picture or a folder, but it does not exist")
    if not pictures:
        raise BadInput(f"{', '.join(names)}: expected pictures ({', '.join(FORMATS)}), got none")
    return list(dict.fromkeys(pictures))


def skipped_entries(root: Path, files: list[PictureFile]) -> list[tuple[str, str]]:
    """Return what is not read as a picture, as (name, why): other files and broken links in folders, empty
    folders, and pictures that are not in the folder of a class, or rows of a table without a label.
    """
    if root.is_file():
        return [(printable(row["path"]), "no label") for row in read_table(root) if not row["label"]]
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
    """Return the identity of a set of files from {entry: sha256}; it does not depend on their order."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return f"files by sha256:{hashlib.sha256(lines.encode('utf-8', 'surrogateescape')).hexdigest()}"


def list_first(items: Sequence[str]) -> str:
    """Return the first few of many items as text, and how many more there are."""
    more = len(items) - LISTED_FILES
    return "; ".join([*items[:LISTED_FILES], *([f"and {more} more"] if more > 0 else [])])


def path_name(name: str) -> str:
    """Return a data set's name in a form safe for file names: folder:My photos becomes folder-My_photos."""
    if not name.startswith(PICTURES):
        return name
    kind, _, title = _short_name(name).partition(":")
    return f"{kind}-{re.sub(r'[^A-Za-z0-9._+-]', '_', title)[:LONGEST_TITLE]}"


def _short_name(name: str) -> str:
    """Return the name of a data set of pictures with the last part of its path only."""
    kind, _, path = name.partition(":")
    return f"{kind}:{text_of_name(Path(path).expanduser().absolute().resolve().name)}"


def _relative_name(root: Path, path: Path) -> str:
    return text_of_name(path.relative_to(root).as_posix())


def _folders(parent: Path) -> list[Path]:
    return [path for path in entries_of(parent) if path.is_dir()]


@functools.lru_cache(maxsize=32)
def _scan(root: Path, index: Path | None, layout: str) -> tuple[list[PictureFile], str]:
    """Return the files of a folder and their identity; scanned once per process so that its keys agree."""
    files = picture_files(root, layout)
    path, base = _index_file(root, index) if index else None, root.parent if root.is_file() else root
    (_, cached), began = _read_index(path), time.time_ns()
    names = {file.path: os.path.relpath(file.path, base) for file in files}
    with ThreadPoolExecutor(usable_cores()) as pool:
        read = pool.map(lambda item: _index_entry(item[0], cached.get(item[1])), names.items())
        entries = dict(zip(names, read, strict=True))
    kept = {
        name: entries[place]
        for place, name in names.items()
        if entries[place][-1] and max(entries[place][1:3]) < began - RECENT_NS
    }
    if path and kept != cached:
        with contextlib.suppress(HeadstartError):  # a data folder that cannot be written
            publish_sealed(path, {"folder": str(base), "files": kept})
    return files, identity_of({file.entry: entries[file.path][-1] for file in files})


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
