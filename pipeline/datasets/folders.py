"""A folder of pictures as a data set: one sub-folder per class, optionally below train/val/test.

The data set's key comes from the sha256 of every file. An index caches the digests by name, size, time of
modification, and time of change of the inode, which no copy preserves. Files are hashed again when they are
read; a change in between is an error.
"""

import functools
import hashlib
import os
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.table import FOLDER, Dataset
from pipeline.errors import BadInput, DamagedFile
from pipeline.formatting import printable
from pipeline.machine import usable_cores
from pipeline.storage.publishing import explain_disk_errors, publish_sealed, read_sealed, sha256_of

SPLIT_WORDS = {"train": ("training",), "val": ("valid", "validation", "dev"), "test": ("testing", "eval")}
SPLIT_FOLDERS = {  # every spelling of a split's folder, in lower case
    f"{word}{end}": split
    for split, words in SPLIT_WORDS.items()
    for word in (split, *words)
    for end in ("", "_set", "-set", "set")
}
LAYOUTS = ("auto", "classes", "splits")  # what the folders of a data set are
LEFT_BEHIND = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information")
UNASSIGNED = 255  # split code of an image whose split the folder does not decide
FOLDER_IMAGE_SIZE = 224  # pixels per side, by default: VGG16's own size
RECENT_NS = 2_000_000_000  # a file modified this recently can change again with the same timestamp
LISTED_FILES = 5  # named in a message; the others are counted


@dataclass(frozen=True)
class PictureFile:
    """A picture file: name is its POSIX path relative to the folder; split is "" if the folder has none."""

    name: str
    path: Path
    class_name: str
    split: str

    @property
    def stamp(self) -> list[int]:
        """Size, and times of modification and of change in ns; the index entry is valid while all match."""
        try:
            status = self.path.stat()
        except OSError:  # a broken link, or deleted since the scan; reported as unreadable later
            return [0, 0, 0]
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


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
        raise BadInput(f"{FOLDER}{root}: {expected}; found {len(counts)} with pictures ({classes})")
    if untrained := [name for name, count in counts.items() if not count]:
        raise BadInput(f"{FOLDER}{root}: expected pictures of every class in train, missing: {untrained}")
    return files


def skipped_entries(root: Path, files: list[PictureFile]) -> list[tuple[str, str]]:
    """Return what is not read as a picture, as (name, why): other files, broken links, empty folders."""
    pictures = {file.path for file in files}
    class_folders = {file.path.relative_to(root).parts[: 2 if file.split else 1] for file in files}
    split_folders = sorted({parts[0] for parts in class_folders if len(parts) == 2})
    skipped = []
    for folder in (folder for name in split_folders or [""] for folder in _folders(root / name)):
        if folder.relative_to(root).parts not in class_folders:
            skipped.append((f"{_relative_name(root, folder)}/", "folder contains no pictures"))
        for path in files_below(folder):
            if path not in pictures:
                is_picture = path.suffix.lower() in SUFFIXES
                why = "broken link" if is_picture else f"file name has none of {', '.join(SUFFIXES)}"
                skipped.append((_relative_name(root, path), why))
    return skipped


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
    return f"folder-{re.sub(r'[^A-Za-z0-9._+-]', '_', title)}"


def _relative_name(root: Path, path: Path) -> str:
    return text_of_name(path.relative_to(root).as_posix())


def text_of_name(name: str) -> str:
    """Return a file name with invalid UTF-8 replaced by U+FFFD and control characters escaped."""
    return printable(os.fsencode(name).decode("utf-8", "replace"))


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and not _is_left_behind(path))


def _is_left_behind(path: Path) -> bool:
    """Return whether a file or folder is hidden or one that an operating system leaves behind."""
    return path.name.startswith(".") or path.name.lower() in LEFT_BEHIND


@functools.lru_cache(maxsize=32)
def _scan(root: Path, index: Path | None, layout: str) -> tuple[list[PictureFile], str]:
    """Return the files of a folder and their identity; scanned once per process so that its keys agree."""
    files = picture_files(root, layout)
    path = _index_file(root, index) if index else None
    cached, began = _read_index(path), time.time_ns()
    stamps = {file.name: file.stamp for file in files}
    changed = [file for file in files if cached.get(file.name, [None])[:-1] != stamps[file.name]]
    with ThreadPoolExecutor(usable_cores()) as pool:
        new = dict(zip((file.name for file in changed), pool.map(_digest, changed), strict=True))
    digests = {file.name: new.get(file.name) or cached[file.name][-1] for file in files}
    if path and changed:
        entries = {
            name: [*stamp, digests[name]]
            for name, stamp in stamps.items()
            if digests[name] and max(stamp[1:]) < began - RECENT_NS
        }
        with explain_disk_errors(path):
            publish_sealed(path, entries)
    return files, identity_of(digests)


def _index_file(root: Path, index: Path) -> Path:
    return index / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}.json"


def forget_digests(root: Path, index: Path) -> None:
    """Remove the index of a folder, so that the next command hashes all its files again."""
    _index_file(root, index).unlink(missing_ok=True)


def _digest(file: PictureFile) -> str:
    try:
        return sha256_of(file.path)
    except OSError:
        return ""


def _read_index(path: Path | None) -> dict[str, list[Any]]:
    """Return the entries of an index; empty if it is missing or damaged, since it can be rebuilt."""
    try:
        entries = read_sealed(path) if path else {}
    except DamagedFile:
        return {}
    valid = all(
        isinstance(entry, list) and len(entry) == 4 and isinstance(entry[3], str)
        for entry in entries.values()
    )
    return entries if valid else {}


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")  # Pillow's names
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
FITTING = "transparency on white, square from the centre, bilinear, antialiased (Pillow)"


def find_pictures(names: Sequence[str]) -> list[str]:
    """Return the paths of pictures in folders and of named files of any extension; raise BadInput if none."""
    pictures: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir() and name:
            pictures += map(str, pictures_below(path))
        elif path.is_file():
            pictures.append(str(path))
        else:
            raise BadInput(f"{name!r}: expected a picture or a folder, but it does not exist")
    if not pictures:
        raise BadInput(f"{', '.join(names)}: expected pictures (PNG, JPEG, WebP, BMP, GIF), got none")
    return list(dict.fromkeys(pictures))


def pictures_below(folder: Path) -> Iterator[Path]:
    """Yield the picture files in and below a folder, sorted; skip hidden files and links to folders."""
    return (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES and path.is_file())


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in and below a folder, sorted; skip hidden entries and do not follow folder links."""
    for path in sorted(folder.iterdir()):
        if _is_left_behind(path):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files_below(path)
        else:
            yield path
