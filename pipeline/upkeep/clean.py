"""Find and remove what no preset and no existing run uses in the data folder.

Finished runs and reports are results and are always kept, and so are files that users put into the data
folder.
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
from pipeline.storage import layout
from pipeline.storage.fingerprint import canonical, key_of
from pipeline.storage.publishing import explain_disk_errors, is_held, is_orphaned, is_scratch
from pipeline.upkeep.inventory import Entry, bytes_of, entries, is_in_use, locks_of, walk

SOURCES = ("download", "weights", "dataset", "cache", "section")  # what downstream tasks read
PREPARED = ("download", "weights", "dataset")  # what extraction or preparation reads


@dataclass(frozen=True)
class Needs:
    """What is in use: folders, by path below the data folder or by key, and requests for features.

    A request is the fingerprint of a cache with layers and views.
    """

    folders: frozenset[str]
    requests: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing uses, why it is unused or kept, and its size in bytes."""

    path: Path
    reason: str
    bytes: int
    kept: bool = False


def leftovers(data: Path, presets: Needs) -> list[Leftover]:
    """Return what neither presets nor the runs in the data folder use; changes nothing."""
    inventory = entries(data)
    runs = needs_of_runs(inventory)
    needs = Needs(presets.folders | runs.folders, presets.requests + runs.requests)
    resumable = _unfinished_sections(data, needs.requests)
    unused = {entry.folder: why for entry in inventory if (why := _why_unused(data, entry, needs, resumable))}
    unused |= _unused_caches(inventory, unused, needs) | _scratch_and_links(data, needs)
    for entry in inventory:  # runs that were killed after they published their manifest
        checkpoint = entry.folder / layout.CHECKPOINT
        if checkpoint.is_file() and entry.manifest and entry.manifest.missing() is None:
            unused[checkpoint] = "checkpoint of a finished run"
    unused = {path: why for path, why in unused.items() if not any(up in unused for up in path.parents)}
    busy = _busy_kinds(data)
    return [*_user_files(data), *(_leftover(data, path, why, busy) for path, why in sorted(unused.items()))]


def _leftover(data: Path, path: Path, reason: str, busy: dict[str, str]) -> Leftover:
    """Return an unused file or folder; it is kept if a running process makes it or may read it."""
    why_kept = None
    if not path.is_symlink():
        why_kept = busy.get(layout.kind_of(path.relative_to(data).as_posix()) or "")
        why_kept = "in use by another process" if is_in_use(data, path) else why_kept
    return Leftover(path, why_kept or reason, bytes_of(path), kept=why_kept is not None)


def features_above(data: Path, keep: int, removed: Collection[Path] = ()) -> list[Leftover]:
    """Return the cached features to remove so that at most keep bytes remain; changes nothing.

    Feature maps come first, then averages, each with the oldest first. They can be extracted again; those
    that a running process may read are kept. removed are paths that are removed anyway.
    """
    sections = []
    for entry in entries(data):
        is_removed = any(map(entry.folder.is_relative_to, removed))
        if entry.kind == "section" and entry.manifest and not is_removed:
            is_map = entry.manifest.fingerprint.get("pooling") == "none"
            written = (entry.folder / layout.MANIFEST).stat().st_mtime
            sections.append((not is_map, written, entry.folder))
    busy = _busy_kinds(data)
    if "weights" in busy:  # an extraction, which a run may wait for
        busy.setdefault("section", busy["weights"])
    result, remaining = list[Leftover](), sum(bytes_of(folder) for *_, folder in sections)
    for is_average, _, folder in sorted(sections):
        if remaining <= keep:
            break
        what = "features" if is_average else "feature maps"
        reason = f"{what} above the limit; they can be extracted again"
        result.append(_leftover(data, folder, reason, busy))
        remaining -= 0 if result[-1].kept else result[-1].bytes
    return result


def needs_of_runs(inventory: list[Entry]) -> Needs:
    """Return the data sets, weights and features that runs, sweeps and curves were made from."""
    folders, requests = set(), []
    for entry in inventory:
        fingerprint = _fingerprint_of_run(entry) if entry.kind in layout.TRAINED_KINDS else None
        if not fingerprint:
            continue
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            folders.add(key_of(fingerprint["dataset"]))
            stored = [fingerprint[name] for name in ("features", "maps") if name in fingerprint]
            for features in (one for one in stored if isinstance(one["weights"], str)):  # as of this version
                requests.append({**features, "layers": [*features["layers"]], "views": [*features["views"]]})
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


def _why_unused(data: Path, entry: Entry, needs: Needs, resumable: set[Path]) -> str | None:
    """Return why a folder is unused; None if it is used or is kept in any case."""
    place, key = entry.folder.relative_to(data).as_posix(), entry.folder.name.rpartition("-")[2]
    used = bool({place, key} & needs.folders)
    what = "features" if entry.kind in ("cache", "section") else entry.kind
    if entry.manifest is None and entry.fault is None:
        if entry.kind == "study" or (entry.folder / layout.CHECKPOINT).is_file() or entry.folder in resumable:
            return None  # it resumes after its last trial, epoch or shard
        if entry.kind in ("download", "weights"):
            return None if used else f"unfinished {entry.kind}"
        return None if entry.kind in ("cache", "comparison") else f"unfinished {what} without a manifest"
    if what == "features" and entry.manifest:
        used = any(satisfies(entry, request) for request in needs.requests)
    elif entry.kind not in PREPARED:
        return None
    return None if used else f"{what} that no preset or run uses"


def satisfies(entry: Entry, request: dict[str, Any]) -> bool:
    """Return whether an entry holds features that a request asks for."""
    fingerprint = entry.manifest.fingerprint if entry.manifest else {}
    if canonical(base_fingerprint(fingerprint)) != canonical(base_fingerprint(request)):
        return False
    if entry.kind == "cache":
        return True
    common_layers = {*fingerprint.get("layers", ())} & {*request["layers"]}
    return fingerprint.get("view") in request["views"] and bool(common_layers)


def _unfinished_sections(data: Path, requests: tuple[dict[str, Any], ...]) -> set[Path]:
    """Return the folders of sections that the next run would resume."""
    return {
        section.folder
        for request in requests
        for cache in layout.list_folders(data, "cache")
        if cache.name.endswith(f"-{key_of(base_fingerprint(request))}")
        for section in missing_sections(cache, request)
    }


def _unused_caches(inventory: list[Entry], unused: dict[Path, str], needs: Needs) -> dict[Path, str]:
    """Return the caches of which nothing is used; they are listed in place of their sections."""
    keys = {key_of(base_fingerprint(request)) for request in needs.requests}
    used = {entry.folder.parent for entry in inventory if entry.folder not in unused}
    caches = [one.folder for one in inventory if one.kind == "cache" and not (one.manifest or one.fault)]
    paths = [path for path in caches if path.name.rpartition("-")[2] not in keys and path not in used]
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
                leftovers.append(Leftover(path, "not created by headstart", bytes_of(path), kept=True))
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
