"""What lies in the data folder: finished and unfinished folders, their files, and what nobody lists.

Nothing here follows a symbolic link, changes a file or prints; callers get values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import DamagedFile
from pipeline.storage import publishing
from pipeline.storage.layout import COSTS, INDEX, LOCKS, MAPPED, OWN_PAGES, QUARANTINE, kind_of, lock_of


@dataclass(frozen=True)
class Entry:
    """A folder of the graph; manifest is None while it is unfinished, or when fault says why it is unread.

    kind is a key of KINDS, or "unknown" for a manifest in a place that is none of them.
    """

    kind: str
    folder: Path
    manifest: publishing.Manifest | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Damage:
    """A file of an entry that is not what its manifest says, or the manifest itself, and why."""

    entry: Entry
    path: Path
    why: str


def walk(data: Path) -> Iterator[tuple[Path, list[Path], list[Path]]]:
    """Yield (folder, its files, its links) for the data folder and all below it, quarantine excepted."""
    for place, folders, files in os.walk(data):
        here = Path(place)
        if here == data:
            folders[:] = [name for name in folders if name != QUARANTINE]
        linked = [name for name in (*folders, *files) if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in linked)
        yield here, sorted(here / name for name in files if name not in linked), [here / n for n in linked]


def entries(data: Path) -> list[Entry]:
    """Return all folders of the graph below the data folder, finished or not, by path; [] without one."""
    found = []
    for folder, files, links in walk(data):
        kind, path = kind_of(folder.relative_to(data).as_posix()), folder / publishing.MANIFEST
        if path in files or path in links:
            found.append(_read_entry(kind or "unknown", folder))
        elif kind:
            found.append(Entry(kind, folder))
    return found


def _read_entry(kind: str, folder: Path) -> Entry:
    path = folder / publishing.MANIFEST
    try:
        if path.is_symlink() or not path.is_file():
            raise DamagedFile(f"{path}: expected a plain file, found a link or a device; it is not followed")
        manifest = publishing.read_manifest(folder)
    except DamagedFile as error:
        return Entry(kind, folder, fault=str(error).removeprefix(f"{path}: "))
    return Entry(kind, folder, manifest)


def damages(data: Path, entry: Entry) -> list[Damage]:
    """Return the files of an entry that are not as listed, after reading every byte of them."""
    if entry.fault:
        return [Damage(entry, entry.folder / publishing.MANIFEST, entry.fault)]
    listed = sorted(entry.manifest.files.items()) if entry.manifest else []
    whys = [(entry.folder / name, _why_damaged(data, entry.folder / name, file)) for name, file in listed]
    return [Damage(entry, path, why) for path, why in whys if why]


def _why_damaged(data: Path, path: Path, listed: dict[str, Any]) -> str | None:
    try:
        if not path.resolve().is_relative_to(data.resolve()):
            return "leads out of the data folder and is not followed"
        if not path.is_file():
            return f"expected {listed['bytes']} bytes, found no file"
        if path.stat().st_size != listed["bytes"]:
            return f"expected {listed['bytes']} bytes, found {path.stat().st_size}"
        found = publishing.sha256_of(path)
    except (OSError, ValueError, RuntimeError) as error:  # such as for a name that no disk takes
        return f"could not be read ({error})"
    return None if found == listed["sha256"] else f"expected sha256 {listed['sha256']}, found {found}"


def unlisted(data: Path, known: list[Entry]) -> list[Path]:
    """Return the files and links below the data folder that no manifest lists and the graph does not keep."""
    listed = {entry.folder / name for entry in known if entry.manifest for name in entry.manifest.files}
    listed |= {entry.folder / publishing.MANIFEST for entry in known} | {data / name for name in OWN_PAGES}
    sections = {entry.folder for entry in known if entry.kind == "section"}
    return sorted(
        path
        for folder, files, links in walk(data)
        for path in (*files, *links)
        if path not in listed and not _is_by_work(path, folder in sections)
    )


def _is_by_work(path: Path, in_section: bool) -> bool:
    """Say whether a file is a lock, an index, a mapped copy, a living scratch, or a note of a section."""
    if {LOCKS, MAPPED, INDEX} & set(path.parts) or re.fullmatch(r"\..*\.lock", path.name):
        return True
    if publishing.is_scratch(path):
        return not publishing.is_left_behind(path)
    return in_section and (path.name == COSTS or re.fullmatch(r"shard-\d+\.json", path.name) is not None)


def locks_of(data: Path, folder: Path) -> list[Path]:
    """Return the lock files that processes which make a folder, or a part of it, may hold."""
    inside = [path for place in (LOCKS, f"*/{LOCKS}") for path in folder.glob(f"{place}/*.lock")]
    return [path for path in (lock_of(data, folder), *inside) if path.is_file()]


def is_held(lock: Path) -> bool:
    """Say whether a living process holds a lock file that is there."""
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True


def is_in_use(data: Path, folder: Path) -> bool:
    """Say whether a living process makes a folder or a part of it."""
    return any(is_held(lock) for lock in locks_of(data, folder))


def bytes_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; what links lead to does not count."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for _, files, links in walk(path) for file in (*files, *links))
