"""The contents of the data folder: finished and unfinished folders, their files, and unlisted files.

The functions here follow no symbolic links, change no files and print nothing.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DamagedFile
from pipeline.storage import layout, publishing
from pipeline.storage.layout import COSTS, LOCKS, OWN_FILES


@dataclass(frozen=True)
class Entry:
    """A folder of the graph. manifest is None if the folder is unfinished or fault says why it is unreadable.

    kind is a key of KINDS, or "unknown" for a manifest in any other place.
    """

    kind: str
    folder: Path
    manifest: publishing.Manifest | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Damage:
    """A file that does not match its entry's manifest, or a damaged manifest, and why."""

    entry: Entry
    path: Path
    why: str


def walk(data: Path) -> Iterator[tuple[Path, list[Path], list[Path]]]:
    """Yield (folder, files, links) for the data folder and every folder below it except quarantine/."""
    for place, folders, files in os.walk(data):
        here = Path(place)
        if here == data:
            folders[:] = [name for name in folders if name != layout.QUARANTINE]
        linked = [name for name in (*folders, *files) if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in linked)
        yield here, sorted(here / name for name in files if name not in linked), [here / n for n in linked]


def entries(data: Path) -> list[Entry]:
    """Return all folders of the graph in the data folder, finished or not, sorted by path."""
    result = []
    for folder, files, links in walk(data):
        kind, path = layout.kind_of(folder.relative_to(data).as_posix()), folder / publishing.MANIFEST
        if path in files or path in links:
            result.append(_read_entry(kind or "unknown", folder, path))
        elif kind:
            result.append(Entry(kind, folder))
    return result


def _read_entry(kind: str, folder: Path, path: Path) -> Entry:
    try:
        if path.is_symlink() or not path.is_file():
            raise DamagedFile(f"{path}: expected a plain file, found a link or a device; it is not followed")
        return Entry(kind, folder, publishing.read_manifest(folder))
    except DamagedFile as error:
        return Entry(kind, folder, fault=str(error).removeprefix(f"{path}: "))


def damages(data: Path, entry: Entry) -> list[Damage]:
    """Return the files of an entry that differ from its manifest; reads every byte."""
    if entry.fault:
        return [Damage(entry, entry.folder / publishing.MANIFEST, entry.fault)]
    if entry.manifest is None:
        return []
    names = sorted(entry.manifest.files)
    if entry.kind == "section":
        names.append(COSTS)  # differs between extractions, so the manifest does not list it
    checked = [(entry.folder / name, _why_damaged(data, entry.manifest, name)) for name in names]
    return [Damage(entry, path, why) for path, why in checked if why]


def _why_damaged(data: Path, manifest: publishing.Manifest, name: str) -> str | None:
    """Return why a file does not match its manifest or, if that does not list it, its seal; or None."""
    path = manifest.folder / name
    try:
        if not path.resolve().is_relative_to(data.resolve()):
            return "links outside the data folder and is not followed"
        if name in manifest.files:
            return manifest.fault(name)
        publishing.read_sealed(path)
    except DamagedFile as error:
        return str(error).removeprefix(f"{path}: ")
    except (OSError, ValueError, RuntimeError) as error:  # such as for an invalid file name
        return f"could not be read ({error})"
    return None


def unlisted(data: Path, inventory: list[Entry]) -> list[Path]:
    """Return the files and links in the data folder that no manifest lists, except working files."""
    listed = {entry.folder / name for entry in inventory if entry.manifest for name in entry.manifest.files}
    listed |= {entry.folder / publishing.MANIFEST for entry in inventory} | {data / n for n in OWN_FILES}
    sections = {entry.folder for entry in inventory if entry.kind == "section"}
    return sorted(
        path
        for folder, files, links in walk(data)
        for path in (*files, *links)
        if path not in listed and not _is_working_file(path, folder in sections)
    )


def _is_working_file(path: Path, in_section: bool) -> bool:
    """Return whether a file is a lock, index, scratch file in use, or note of a section."""
    own = {LOCKS, layout.FONTS, layout.INDEX, layout.IDENTITIES, layout.MODELS, layout.CONTENT, layout.SPEED}
    if own & set(path.parts) or re.fullmatch(r"\..*\.lock", path.name):
        return True
    if publishing.is_scratch(path):
        return not publishing.is_orphaned(path)
    return in_section and (path.name == COSTS or re.fullmatch(r"shard-\d+\.json", path.name) is not None)


def locks_of(data: Path, folder: Path) -> list[Path]:
    """Return the lock files for a folder and its parts that exist."""
    inside = [path for place in (LOCKS, f"*/{LOCKS}") for path in folder.glob(f"{place}/*.lock")]
    return [path for path in (layout.lock_of(data, folder), *inside) if path.is_file()]


def is_in_use(data: Path, folder: Path) -> bool:
    """Return whether a running process is making a folder or a part of it."""
    return any(publishing.is_held(lock) for lock in locks_of(data, folder))


def bytes_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder; the targets of links do not count."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for _, files, links in walk(path) for file in (*files, *links))
