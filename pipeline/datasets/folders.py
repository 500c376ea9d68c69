"""A folder of pictures as a data set: a sub-folder for each class, or train/val/test above them.

The sha256 of every file gives the data set its key before anything runs. Digests are kept in an index by
name, size and time of change. Files are hashed again when they are read; one that changed in between is
refused.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.table import FOLDER, Dataset
from pipeline.errors import BadInput, DamagedFile
from pipeline.formatting import pluralize, printable
from pipeline.machine import usable_cores
from pipeline.storage.publishing import explained, publish_sealed, read_sealed, sha256_of

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
UNGIVEN = 255  # the split of an image that the folder leaves open
VAL_FRACTION, TEST_FRACTION = 0.1, 0.2
FRESH_NS = 2_000_000_000  # a file changed so lately may change again within one tick of its clock
SHOWN = 5


@dataclass(frozen=True)
class PictureFile:
    """A picture file: name is its path below the folder with "/" in it, part "" where none is given."""

    name: str
    path: Path
    class_name: str
    part: str

    @property
    def stamp(self) -> list[int]:
        """The size in bytes and the time of change in nanoseconds, by which a digest is known again."""
        try:
            found = self.path.stat()
        except OSError:  # a link to nothing, or gone since: it is listed as unreadable later
            return [0, 0]
        return [found.st_size, found.st_mtime_ns]


def folder_dataset(text: str, index: Path | None) -> Dataset:
    """Return the row of the data set `folder:PATH`; index is a folder for digests that are known already.

    Raises BadInput for a folder that is none, or that has fewer than two classes with pictures.
    """
    root = Path(text.removeprefix(FOLDER)).expanduser().absolute()
    files, identity = _scanned(root, index)
    return folder_row(_text(root.resolve().name), identity, len(files))


def folder_row(title: str, identity: str, size: int, note: str = "") -> Dataset:
    """Return the row of a folder of that name whose files have that identity."""
    return Dataset(
        name=f"{FOLDER}{title}",
        title=title,
        reader="pipeline.datasets.readers:read_folder",
        source=identity,
        size=size,
        download=None,
        val_fraction=VAL_FRACTION,
        test_fraction=TEST_FRACTION,
        note=note,
        order="content",
        fitting=FITTING,
    )


def picture_files(root: Path) -> list[PictureFile]:
    """Return the picture files of a folder by name; raise BadInput where it is not laid out as expected."""
    expected = (
        "expected a folder with one sub-folder of pictures for each class, or train/val/test above them"
    )
    if not root.is_dir():
        raise BadInput(f"{FOLDER}{root}: {expected}, found {'a file' if root.exists() else 'nothing'} there")
    below = _folders(root)
    split = {path.name for path in below} <= set(PARTS) and any(path.name == "train" for path in below)
    tops = [(path, PARTS[path.name]) for path in below] if split else [(root, "")]
    files = [
        PictureFile(_name_below(root, path), path, _text(folder.name), part)
        for top, part in tops
        for folder in _folders(top)
        for path in pictures_below(folder)
    ]
    counts = dict.fromkeys((file.class_name for file in files), 0)
    for file in files:
        counts[file.class_name] += file.part in ("", "train")
    if len(counts) < 2:
        known = ", ".join(counts) or "none"
        raise BadInput(f"{FOLDER}{root}: {expected}; found {len(counts)} with pictures ({known})")
    if untrained := [name for name, count in counts.items() if not count]:
        raise BadInput(
            f"{FOLDER}{root}: expected pictures of every class in train, found none of {untrained}"
        )
    return files


def strangers(root: Path, files: list[PictureFile]) -> list[tuple[str, str]]:
    """Return what lies where pictures are expected and is none, as (name, why): files, empty folders."""
    known = {file.path for file in files}
    places = {file.path.relative_to(root).parts[: 2 if file.part else 1] for file in files}
    tops = sorted({place[0] for place in places if len(place) == 2})
    found = []
    for folder in (folder for top in tops or [""] for folder in _folders(root / top)):
        if folder.relative_to(root).parts not in places:
            found.append((f"{_name_below(root, folder)}/", "a folder without pictures, so no class"))
        for path in files_below(folder):
            if path not in known:
                why = "leads to no file" if is_picture(path) else f"not named as one of {', '.join(FORMATS)}"
                found.append((_name_below(root, path), why))
    return found


def identity_of(digests: dict[str, str]) -> str:
    """Return the identity of files given as sha256 by name, whatever order they come in."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return f"files by sha256:{hashlib.sha256(lines.encode('utf-8', 'surrogateescape')).hexdigest()}"


def words_of(unreadable: list[tuple[str, str]]) -> str:
    """Return which files are none of the images, the first few by name and why."""
    some = "; ".join(f"{name} ({why})" for name, why in unreadable[:SHOWN])
    more = len(unreadable) - SHOWN
    return f"{pluralize(len(unreadable), 'file')} left out: {some}{f'; and {more} more' if more > 0 else ''}"


def path_name(name: str) -> str:
    """Return the name of a data set as part of a file's name: folder:My photos is folder-My_photos."""
    if not name.startswith(FOLDER):
        return name
    title = Path(name.removeprefix(FOLDER)).expanduser().absolute().resolve().name
    return f"folder-{re.sub(r'[^A-Za-z0-9._+-]', '_', title)}"


def _name_below(root: Path, path: Path) -> str:
    return _text(path.relative_to(root).as_posix())


def _text(name: str) -> str:
    """Return a file's name with U+FFFD for bytes that are no UTF-8, and control characters spelled out."""
    return printable(os.fsencode(name).decode("utf-8", "replace"))


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


@functools.lru_cache(maxsize=32)
def _scanned(root: Path, index: Path | None) -> tuple[list[PictureFile], str]:
    """Return the files of a folder and their identity; a process looks once, so that its keys agree."""
    files = picture_files(root)
    place = index / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}.json" if index else None
    known, began = _read_index(place), time.time_ns()
    stamps = {file.name: file.stamp for file in files}
    fresh = [file for file in files if known.get(file.name, [None])[:-1] != stamps[file.name]]
    with ThreadPoolExecutor(usable_cores()) as pool:
        new = dict(zip((file.name for file in fresh), pool.map(_digest, fresh), strict=True))
    digests = {file.name: new.get(file.name) or known[file.name][-1] for file in files}
    if place and fresh:
        sure = {
            name: [*stamp, digests[name]]
            for name, stamp in stamps.items()
            if digests[name] and stamp[1] < began - FRESH_NS
        }
        with explained(place):
            publish_sealed(place, sure)
    return files, identity_of(digests)


def _digest(file: PictureFile) -> str:
    try:
        return sha256_of(file.path)
    except OSError:
        return ""


def _read_index(place: Path | None) -> dict[str, list[Any]]:
    """Return the entries of an index; none where it cannot be read, since it can be made again."""
    try:
        found = read_sealed(place) if place else {}
    except DamagedFile:
        return {}
    sound = all(
        isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], str) for entry in found.values()
    )
    return found if sound else {}


FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}


SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)


FITTING = "transparency on white, square from the centre, bilinear, antialiased (Pillow)"


def is_picture(path: Path) -> bool:
    """Say whether a file's name ends as one of the formats does."""
    return path.suffix.lower() in SUFFIXES


def pictures_below(folder: Path) -> Iterator[Path]:
    """Yield the picture files in and below a folder by name, but for hidden ones and links to folders."""
    return (path for path in files_below(folder) if is_picture(path) and path.is_file())


def files_below(folder: Path) -> Iterator[Path]:
    """Yield what lies in and below a folder by name, but for what is hidden; links to folders unfollowed."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files_below(path)
        else:
            yield path
