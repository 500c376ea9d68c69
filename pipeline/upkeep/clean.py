"""What nobody needs any more in the data folder: neither a preset nor an existing run. And its removal.

Runs and reports that are finished are results and stay, whatever refers to them, unless a run's settings have
other names than this version gives them: it can never be asked for again. What a person put into the data
folder stays, too.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import HeadstartError
from pipeline.features.sections import missing_sections, without_columns
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import as_dict
from pipeline.storage import layout
from pipeline.storage.fingerprint import canonical, key_of
from pipeline.storage.publishing import is_left_behind, is_scratch
from pipeline.upkeep.inventory import Entry, bytes_of, entries, is_held, is_in_use, locks_of, walk

SOURCES = ("download", "weights", "dataset", "cache", "section")  # what tasks further down read
DERIVED = ("metrics", "plots", "findings", "atlas", "labels", "seeds", "blocks", "recipe")
PREPARED = ("download", "weights", "dataset")  # what an extraction reads, or a preparation


@dataclass(frozen=True)
class Request:
    """Layers of views of a feature cache that somebody needs; base is the cache's fingerprint."""

    base: dict[str, Any]
    layers: tuple[str, ...]
    views: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """What somebody needs: folders by their path below the data folder, and features by what is in them."""

    folders: frozenset[str]
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Leftover:
    """Something below the data folder, what it is in words, and its size in bytes."""

    path: Path
    words: str
    bytes: int


@dataclass(frozen=True)
class Leftovers:
    """What can be removed, and what was left out of it for a reason that its words give."""

    removable: list[Leftover]
    kept: list[Leftover]


def leftovers(data: Path, presets: Needs) -> Leftovers:
    """Return what neither presets nor the runs in the data folder need; changes nothing."""
    known = entries(data)
    runs = needs_of_runs(known)
    needs = Needs(presets.folders | runs.folders, presets.requests + runs.requests)
    going_on = _unfinished_sections(data, needs.requests)
    found = {entry.folder: why for entry in known if (why := _why_unneeded(data, entry, needs, going_on))}
    found |= _whole_caches(known, found, needs) | _loose_ends(data, needs) | _checkpoints_of_finished(known)
    found = {path: why for path, why in found.items() if not any(up in found for up in path.parents)}
    removable: list[Leftover] = []
    kept, busy = _put_by_people(data), _busy_kinds(data)
    for path, why in sorted(found.items()):
        reason = (
            None if path.is_symlink() else busy.get(layout.kind_of(path.relative_to(data).as_posix()) or "")
        )
        if not path.is_symlink() and is_in_use(data, path):
            reason = "kept: a process works on it"
        (kept if reason else removable).append(Leftover(path, reason or why, bytes_of(path)))
    return Leftovers(removable, kept)


def needs_of_runs(known: list[Entry]) -> Needs:
    """Return what runs, sweeps and curves among entries were made from: data sets, weights, features."""
    folders, requests = set(), []
    for entry in known:
        fingerprint = _fingerprint_of_run(entry) if entry.kind in layout.TRAINED else None
        if not fingerprint or _is_of_earlier_version(entry):
            continue
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            folders.add(key_of(fingerprint["dataset"]))
            for features in (fingerprint[name] for name in ("features", "maps") if name in fingerprint):
                base = without_columns(features)
                requests.append(Request(base, tuple(features["layers"]), tuple(features["views"])))
                folders.add(key_of({"backbone": features["backbone"], **features["weights"]}))
    return Needs(frozenset(folders), tuple(requests))


def _fingerprint_of_run(entry: Entry) -> Any:
    """Return the fingerprint in a run's manifest or, where that is damaged, in its recipe; else None."""
    if entry.manifest:
        return entry.manifest.fingerprint
    try:
        return json.loads((entry.folder / layout.RECIPE).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_of_earlier_version(entry: Entry) -> bool:
    """Say whether the settings of a finished run, sweep or curve have other names than its recipe's here."""
    if entry.kind not in ("run", "sweep", "curve") or not entry.manifest:
        return False
    has = entry.manifest.fingerprint
    text = str(has.get("scheme") or f"head:{has.get('recipe') or has.get('curve')}")
    scheme, _, recipe = text.partition(":")
    rows = SCHEMES[scheme].recipes if scheme in SCHEMES else {}
    if recipe not in rows or not isinstance(has.get("settings"), dict):
        return False  # a row of an extension that is not loaded, or a recipe from a search
    return as_dict(rows[recipe]).keys() != has["settings"].keys()


def _why_unneeded(data: Path, entry: Entry, needs: Needs, going_on: set[Path]) -> str | None:
    """Return in words why a folder is not needed, None when it is or when that is not for us to say."""
    finished = entry.manifest is not None or entry.fault is not None
    named = entry.folder.relative_to(data).as_posix() in needs.folders
    if _is_of_earlier_version(entry):
        return f"{entry.kind} of an earlier version, whose settings have other names"
    if entry.kind == "study" and not finished:
        return None  # it goes on behind its last trial
    if entry.kind in (*layout.TRAINED, *DERIVED, "dataset") and not finished:
        return f"unfinished {entry.kind}, without a manifest"
    if entry.kind == "section" and not finished:
        return None if entry.folder in going_on else "unfinished features, without a manifest"
    if entry.kind in PREPARED:
        if named or entry.folder.name.rpartition("-")[2] in needs.folders:
            return None
        return f"{entry.kind} that no preset and no run needs" if finished else f"unfinished {entry.kind}"
    if entry.kind in ("cache", "section") and entry.manifest:
        asked = any(satisfies(entry, request) for request in needs.requests)
        return None if asked else "features that no preset and no run needs"
    return None


def satisfies(entry: Entry, request: Request) -> bool:
    """Say whether the features of an entry are among those that a request asks for."""
    has = entry.manifest.fingerprint if entry.manifest else {}
    if canonical(without_columns(has)) != canonical(request.base):
        return False
    if entry.kind == "cache":
        return True
    return has.get("view") in request.views and bool({*has.get("layers", ())} & {*request.layers})


def _unfinished_sections(data: Path, requests: tuple[Request, ...]) -> set[Path]:
    """Return the folders of sections that the next run would go on with."""
    return {
        section.folder
        for request in requests
        for cache in layout.begun(data, "cache")
        if cache.name.endswith(f"-{key_of(request.base)}")
        for section in missing_sections(cache, request.base, request.layers, request.views)
    }


def _whole_caches(known: list[Entry], found: dict[Path, str], needs: Needs) -> dict[Path, str]:
    """Return the caches of which nothing is needed; they go in the place of their sections."""
    bases = {key_of(request.base) for request in needs.requests}
    needed = {entry.folder.parent for entry in known if entry.folder not in found}
    caches = [one.folder for one in known if one.kind == "cache" and not (one.manifest or one.fault)]
    unneeded = [one for one in caches if one.name.rpartition("-")[2] not in bases and one not in needed]
    return dict.fromkeys(unneeded, "features that no preset and no run needs")


def _loose_ends(data: Path, needs: Needs) -> dict[Path, str]:
    """Return scratch files of dead processes, links in places of ours, and what verify put aside."""
    found = dict.fromkeys(data.glob(f"{layout.QUARANTINE}/*"), "put aside by `headstart verify --repair`")
    if (data / layout.QUARANTINE).is_symlink():
        found = {data / layout.QUARANTINE: "a link; what it leads to stays"}
    for _, files, links in walk(data):
        found |= {path: "scratch file of a process that is gone" for path in files if is_left_behind(path)}
        for path in links:
            place = path.relative_to(data).as_posix()
            if layout.kind_of(place) not in (None, "comparison", "run") and place not in needs.folders:
                found[path] = "a link; what it leads to stays"
    return found


def _checkpoints_of_finished(known: list[Entry]) -> dict[Path, str]:
    """Return the checkpoints of trainings that were killed behind their manifest."""
    whole = [one.folder for one in known if one.manifest and one.manifest.missing() is None]
    paths = [folder / layout.CHECKPOINT for folder in whole if (folder / layout.CHECKPOINT).is_file()]
    return dict.fromkeys(paths, "state of a training that is finished")


def _busy_kinds(data: Path) -> dict[str, str]:
    """Return the kinds that a living process may be reading, with what it does."""
    busy: dict[str, str] = {}
    if any(map(is_held, layout.locks_of_kinds(data, ["dataset"]))):
        busy["download"] = "kept while a data set is prepared"
    if any(map(is_held, data.glob(f"{layout.folder_of('section')}/*/*/{layout.LOCKS}/*.lock"))):
        busy |= dict.fromkeys(PREPARED, "kept while features are extracted")
    if any(map(is_held, layout.locks_of_kinds(data, layout.TRAINED))):
        busy |= dict.fromkeys(SOURCES, "kept while a run is trained, which may read it")
    return busy


def _put_by_people(data: Path) -> list[Leftover]:
    """Return what lies in raw/ beside the folders of ours; it is a person's own."""
    found = []
    rooms = [layout.folder_of("download"), layout.folder_of("weights")]
    for folder in (data / room for room in rooms):
        for path in sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ():
            place = path.relative_to(data).as_posix()
            ours = layout.kind_of(place) or place in rooms or re.fullmatch(r"\..*\.lock", path.name)
            if not (ours or is_scratch(path)):
                found.append(Leftover(path, "kept: put there by a person", bytes_of(path)))
    return found


def remove(data: Path, found: list[Leftover]) -> tuple[list[Leftover], list[Leftover]]:
    """Remove leftovers from the data folder; return those that are gone and those that are in use since.

    A link is removed and not followed. Locks of a folder are held while it is removed. Raises
    HeadstartError for a path that is not inside the data folder, or that the disk refuses to remove.
    """
    gone, kept = [], []
    for leftover in found:
        path = leftover.path
        locks = locks_of(data, path) if path.is_dir() and not path.is_symlink() else []
        try:
            with contextlib.ExitStack() as held:
                for lock in locks:
                    held.enter_context(FileLock(lock).acquire(timeout=0))
                _delete(data, path)
        except Timeout:
            kept.append(leftover)
        else:
            gone.append(leftover)
    with contextlib.suppress(OSError):
        (data / layout.QUARANTINE).rmdir()  # only where it is empty
    return gone, kept


def _delete(data: Path, path: Path) -> None:
    inside = path.parent.resolve().is_relative_to(data.resolve()) and ".." not in path.parts
    if not inside or path in {data / name for name in layout.OWN_PAGES}:
        raise HeadstartError(f"{path}: not removed, it is not inside {data}")
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
    except OSError as error:
        raise HeadstartError(f"{path}: could not be removed ({error.strerror or error})") from error
