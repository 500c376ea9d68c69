"""Find and remove what no preset and no existing run uses in the data folder.

Finished runs and reports are results and are always kept, with one exception: a run of an earlier version
whose settings have been renamed since, because no command can ask for it again. Files that users put into
the data folder are kept, too.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import HeadstartError
from pipeline.features.sections import base_fingerprint, missing_sections
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import as_dict
from pipeline.storage import layout
from pipeline.storage.fingerprint import canonical, key_of
from pipeline.storage.publishing import explain_disk_errors, is_orphaned, is_scratch
from pipeline.upkeep.inventory import Entry, bytes_of, entries, is_held, is_in_use, locks_of, walk

SOURCES = ("download", "weights", "dataset", "cache", "section")  # what downstream tasks read
DERIVED = ("metrics", "plots", "findings", "recommendation", "labels", "seeds", "blocks", "recipe")
PREPARED = ("download", "weights", "dataset")  # what extraction or preparation reads


@dataclass(frozen=True)
class Request:
    """Layers and views of a feature cache that a task uses; base is the cache's fingerprint."""

    base: dict[str, Any]
    layers: tuple[str, ...]
    views: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """What is in use: folders, by path below the data folder or by key, and features, by their content."""

    folders: frozenset[str]
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Leftover:
    """A file or folder in the data folder, why it is unused or kept, and its size in bytes."""

    path: Path
    reason: str
    bytes: int


@dataclass(frozen=True)
class Leftovers:
    """What can be removed, and what is kept although nothing uses it."""

    removable: list[Leftover]
    kept: list[Leftover]


def leftovers(data: Path, presets: Needs) -> Leftovers:
    """Return what neither presets nor the runs in the data folder use; changes nothing."""
    inventory = entries(data)
    runs = needs_of_runs(inventory)
    needs = Needs(presets.folders | runs.folders, presets.requests + runs.requests)
    resumable = _unfinished_sections(data, needs.requests)
    unused = {entry.folder: why for entry in inventory if (why := _why_unused(data, entry, needs, resumable))}
    unused |= _unused_caches(inventory, unused, needs) | _scratch_and_links(data, needs)
    unused |= _checkpoints_of_finished(inventory)
    unused = {path: why for path, why in unused.items() if not any(up in unused for up in path.parents)}
    removable: list[Leftover] = []
    kept, busy = _user_files(data), _busy_kinds(data)
    for path, why in sorted(unused.items()):
        why_kept = None
        if not path.is_symlink():
            why_kept = busy.get(layout.kind_of(path.relative_to(data).as_posix()) or "")
            why_kept = "in use by another process" if is_in_use(data, path) else why_kept
        (kept if why_kept else removable).append(Leftover(path, why_kept or why, bytes_of(path)))
    return Leftovers(removable, kept)


def features_above(data: Path, keep: int, removed: Collection[Path] = ()) -> Leftovers:
    """Return the cached features to remove so that at most keep bytes remain; changes nothing.

    Feature maps come first, then averages, each with the oldest first. They can be extracted again; those
    that a running process may read are kept. removed are paths that are removed anyway.
    """
    inventory = [
        entry
        for entry in entries(data)
        if entry.kind == "section"
        and entry.manifest
        and not {entry.folder, *entry.folder.parents} & {*removed}
    ]
    sizes = {entry.folder: bytes_of(entry.folder) for entry in inventory}
    kinds = _busy_kinds(data)
    busy = kinds.get("section") or kinds.get("weights")  # a run, or an extraction that a run waits for
    result, remaining = Leftovers([], []), sum(sizes.values())
    for entry in sorted(inventory, key=_age):
        if remaining <= keep:
            break
        what = "feature maps" if _is_map(entry) else "features"
        why_kept = busy or ("in use by another process" if is_in_use(data, entry.folder) else None)
        reason = why_kept or f"{what} above the limit; they can be extracted again"
        leftover = Leftover(entry.folder, reason, sizes[entry.folder])
        (result.kept if why_kept else result.removable).append(leftover)
        remaining -= 0 if why_kept else leftover.bytes
    return result


def _is_map(entry: Entry) -> bool:
    return entry.manifest is not None and entry.manifest.fingerprint.get("pooling") == "none"


def _age(entry: Entry) -> tuple[bool, float]:
    """Return a sort key that puts maps before averages, and the oldest first."""
    return not _is_map(entry), (entry.folder / layout.MANIFEST).stat().st_mtime


def needs_of_runs(inventory: list[Entry]) -> Needs:
    """Return the data sets, weights and features that runs, sweeps and curves were made from."""
    folders, requests = set(), []
    for entry in inventory:
        fingerprint = _fingerprint_of_run(entry) if entry.kind in layout.TRAINED_KINDS else None
        if not fingerprint or _is_of_earlier_version(entry):
            continue
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            folders.add(key_of(fingerprint["dataset"]))
            for features in (fingerprint[name] for name in ("features", "maps") if name in fingerprint):
                if not isinstance(features["weights"], str):
                    continue  # a cache of an earlier version, which no command reads
                base = base_fingerprint(features)
                requests.append(Request(base, tuple(features["layers"]), tuple(features["views"])))
                folders.add(key_of({name: features[name] for name in ("backbone", "weights")}))
    return Needs(frozenset(folders), tuple(requests))


def _fingerprint_of_run(entry: Entry) -> Any:
    """Return the fingerprint from a run's manifest or, if that is damaged, from its recipe; else None."""
    if entry.manifest:
        return entry.manifest.fingerprint
    try:
        return json.loads((entry.folder / layout.RECIPE).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_of_earlier_version(entry: Entry) -> bool:
    """Return whether a finished run, sweep or curve has settings that were renamed or removed since."""
    if entry.kind not in ("run", "sweep", "curve") or not entry.manifest:
        return False
    fingerprint = entry.manifest.fingerprint
    text = str(fingerprint.get("scheme") or f"head:{fingerprint.get('recipe') or fingerprint.get('curve')}")
    scheme, _, recipe = text.partition(":")
    rows = SCHEMES[scheme].recipes if scheme in SCHEMES else {}
    if recipe not in rows or not isinstance(fingerprint.get("settings"), dict):
        return False  # a row of an extension that is not loaded, or a recipe from a search
    return as_dict(rows[recipe]).keys() != fingerprint["settings"].keys()


def _why_unused(data: Path, entry: Entry, needs: Needs, resumable: set[Path]) -> str | None:
    """Return why a folder is unused; None if it is used or is kept in any case."""
    finished = entry.manifest is not None or entry.fault is not None
    used = entry.folder.relative_to(data).as_posix() in needs.folders
    if _is_of_earlier_version(entry):
        return f"{entry.kind} of an earlier version whose settings have been renamed"
    if not finished and (entry.kind == "study" or (entry.folder / layout.CHECKPOINT).is_file()):
        return None  # it resumes after its last trial or epoch
    if entry.kind in (*layout.TRAINED_KINDS, *DERIVED, "dataset") and not finished:
        return f"unfinished {entry.kind} without a manifest"
    if entry.kind == "section" and not finished:
        return None if entry.folder in resumable else "unfinished features without a manifest"
    if entry.kind in PREPARED:
        if used or entry.folder.name.rpartition("-")[2] in needs.folders:
            return None
        return f"{entry.kind} that no preset or run uses" if finished else f"unfinished {entry.kind}"
    if entry.kind in ("cache", "section") and entry.manifest:
        used = any(satisfies(entry, request) for request in needs.requests)
        return None if used else "features that no preset or run uses"
    return None


def satisfies(entry: Entry, request: Request) -> bool:
    """Return whether an entry holds features that a request asks for."""
    fingerprint = entry.manifest.fingerprint if entry.manifest else {}
    if canonical(base_fingerprint(fingerprint)) != canonical(request.base):
        return False
    if entry.kind == "cache":
        return True
    common_layers = {*fingerprint.get("layers", ())} & {*request.layers}
    return fingerprint.get("view") in request.views and bool(common_layers)


def _unfinished_sections(data: Path, requests: tuple[Request, ...]) -> set[Path]:
    """Return the folders of sections that the next run would resume."""
    return {
        section.folder
        for request in requests
        for cache in layout.list_folders(data, "cache")
        if cache.name.endswith(f"-{key_of(request.base)}")
        for section in missing_sections(cache, request.base, request.layers, request.views)
    }


def _unused_caches(inventory: list[Entry], unused: dict[Path, str], needs: Needs) -> dict[Path, str]:
    """Return the caches of which nothing is used; they are listed in place of their sections."""
    bases = {key_of(request.base) for request in needs.requests}
    used = {entry.folder.parent for entry in inventory if entry.folder not in unused}
    caches = [one.folder for one in inventory if one.kind == "cache" and not (one.manifest or one.fault)]
    paths = [path for path in caches if path.name.rpartition("-")[2] not in bases and path not in used]
    return dict.fromkeys(paths, "features that no preset or run uses")


def _scratch_and_links(data: Path, needs: Needs) -> dict[Path, str]:
    """Return scratch files of dead processes, links in place of the graph's folders, and the quarantine."""
    reasons = dict.fromkeys(data.glob(f"{layout.QUARANTINE}/*"), "moved by `headstart verify --repair`")
    if (data / layout.QUARANTINE).is_symlink():
        reasons = {data / layout.QUARANTINE: "a link; its target is kept"}
    for _, files, links in walk(data):
        reasons |= {path: "scratch file of a dead process" for path in files if is_orphaned(path)}
        for path in links:
            place = path.relative_to(data).as_posix()
            if layout.kind_of(place) not in (None, "comparison", "run") and place not in needs.folders:
                reasons[path] = "a link; its target is kept"
    return reasons


def _checkpoints_of_finished(inventory: list[Entry]) -> dict[Path, str]:
    """Return the checkpoints of runs that were killed after publishing their manifest."""
    finished = [one.folder for one in inventory if one.manifest and one.manifest.missing() is None]
    paths = [folder / layout.CHECKPOINT for folder in finished if (folder / layout.CHECKPOINT).is_file()]
    return dict.fromkeys(paths, "checkpoint of a finished run")


def _busy_kinds(data: Path) -> dict[str, str]:
    """Return the kinds of folder that a running process may be reading, and what it is doing."""
    busy: dict[str, str] = {}
    if any(map(is_held, layout.locks_of_kinds(data, ["dataset"]))):
        busy["download"] = "a data set is being prepared"
    if any(map(is_held, data.glob(f"{layout.folder_of('section')}/*/*/{layout.LOCKS}/*.lock"))):
        busy |= dict.fromkeys(PREPARED, "features are being extracted")
    if any(map(is_held, layout.locks_of_kinds(data, layout.TRAINED_KINDS))):
        busy |= dict.fromkeys(SOURCES, "a run is being trained and may read it")
    return busy


def _user_files(data: Path) -> list[Leftover]:
    """Return the files in raw/ that the graph did not create."""
    leftovers = []
    places = [layout.folder_of("download"), layout.folder_of("weights")]
    for folder in (data / place for place in places):
        for path in sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ():
            place = path.relative_to(data).as_posix()
            created = layout.kind_of(place) or place in places or re.fullmatch(r"\..*\.lock", path.name)
            if not (created or is_scratch(path)):
                leftovers.append(Leftover(path, "not created by headstart", bytes_of(path)))
    return leftovers


def remove(data: Path, unused: list[Leftover]) -> tuple[list[Leftover], list[Leftover]]:
    """Remove leftovers from the data folder; return those that were removed and those now in use.

    Links are removed, not followed. A folder's locks are held while it is removed. Raises HeadstartError
    for a path outside the data folder, and for one that the operating system refuses to remove.
    """
    removed, in_use = [], []
    for leftover in unused:
        path = leftover.path
        locks = locks_of(data, path) if path.is_dir() and not path.is_symlink() else []
        try:
            with contextlib.ExitStack() as held, explain_disk_errors(path):
                for lock in locks:
                    held.enter_context(FileLock(lock).acquire(timeout=0))
                _delete(data, path)
        except Timeout:
            in_use.append(leftover)
        else:
            removed.append(leftover)
    with contextlib.suppress(OSError):
        (data / layout.QUARANTINE).rmdir()  # fails unless it is empty
    return removed, in_use


def _delete(data: Path, path: Path) -> None:
    inside = path.parent.resolve().is_relative_to(data.resolve()) and ".." not in path.parts
    if not inside or path in {data / name for name in layout.OWN_FILES}:
        raise HeadstartError(f"{path}: not removed, because it is not inside {data}")
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
    except OSError as error:
        raise HeadstartError(f"{path}: could not be removed ({error.strerror or error})") from error
