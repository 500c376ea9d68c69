"""Check every file that a manifest lists, the sources of picture folders and a sample of the cached features,
and repair damage.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.children import run_in_child
from pipeline.datasets.folders import check_index
from pipeline.errors import HeadstartError
from pipeline.features.sections import section_at
from pipeline.progress import Progress, silent
from pipeline.storage.fingerprint import key_of
from pipeline.storage.layout import INDEX, QUARANTINE
from pipeline.storage.publishing import MANIFEST
from pipeline.upkeep.inventory import Damage, Entry, damages, entries, is_in_use, unlisted


@dataclass(frozen=True)
class Verification:
    """All entries, the damaged files, the files that no manifest lists, comparisons, and sources.

    A comparison of a section's folder with recomputed rows is explained in features.verify. Sources are
    picture folders whose files differ from their index, see folders.check_index.
    """

    entries: list[Entry]
    damages: list[Damage]
    unlisted: list[Path]
    compared: list[tuple[Path, dict[str, Any]]]
    sources: list[tuple[str, dict[str, list[str]]]]


def verify(data: Path, *, sample: int, seed: int, progress: Progress = silent) -> Verification:
    """Check a data folder, which may not exist, and recompute up to sample rows of each section."""
    inventory = entries(data)
    damaged, intact = [], []
    for done, entry in enumerate(inventory):
        progress("check files", done, len(inventory), "folders")
        damage = damages(data, entry)
        damaged += damage
        intact += [entry] if entry.manifest and not damage else []
    compared, wrong_rows = _compare_rows(intact, sample, seed, progress)
    indexes, sources = sorted((data / INDEX).glob("*.json")), []
    for done, index in enumerate(indexes):
        progress("check pictures", done, len(indexes), "folders")
        sources.append(check_index(index))
    return Verification(inventory, damaged + wrong_rows, unlisted(data, inventory), compared, sources)


def _compare_rows(
    intact: list[Entry], sample: int, seed: int, progress: Progress
) -> tuple[list[tuple[Path, dict[str, Any]]], list[Damage]]:
    """Recompute rows of the intact sections in one child process."""
    compared, requests, sections, damaged = [], [], [], []
    for entry in intact if sample else ():
        if entry.kind != "section" or entry.manifest is None:
            continue
        sources, missing = sources_of(entry.manifest.fingerprint, intact)
        if missing:
            compared.append((entry.folder, {"refused": missing}))
        else:
            requests.append({"folder": str(entry.folder), **sources})
            sections.append(entry)
    arguments = {"sections": requests, "sample": sample, "seed": seed}
    try:
        function = "pipeline.features.verify:compare_sections"
        results = run_in_child(function, arguments, progress) if requests else []
    except HeadstartError as error:  # the process died, for example because memory ran out
        results = [{"refused": " ".join(str(error).splitlines()[:1])}] * len(requests)
    for entry, result in zip(sections, results, strict=True):
        compared.append((entry.folder, result))
        files = result.get("damaged", {})
        damaged += [Damage(entry, entry.folder / name, why) for name, why in files.items()]
    return sorted(compared, key=lambda pair: pair[0]), damaged


def sources_of(fingerprint: dict[str, Any], intact: list[Entry]) -> tuple[dict[str, str], str | None]:
    """Return the folders {dataset, weights} of a section's sources, and which one is missing, as text."""
    weights = {name: fingerprint.get(name) for name in ("backbone", "weights")}
    keys = {"dataset": key_of(fingerprint.get("dataset")), "weights": key_of(weights)}
    stored = {(entry.kind, entry.manifest.key): str(entry.folder) for entry in intact if entry.manifest}
    folders = {kind: stored[kind, key] for kind, key in keys.items() if (kind, key) in stored}
    phrases = {"dataset": "the prepared data set is", "weights": "the weights are"}
    missing = (f"{phrase} not in the data folder" for kind, phrase in phrases.items() if kind not in folders)
    return folders, next(missing, None)


def repair(
    data: Path, result: Verification, *, stamp: str, progress: Progress = silent
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Move damaged files to quarantine/<stamp>/ and rebuild features whose sources are in the data folder.

    Only the damaged shards of a section are recomputed. Any other folder becomes unfinished, so the next run
    that needs it makes it again. Folders in use by a running process are skipped. Returns the moved files as
    (from, to), and notes on what was rebuilt or skipped.
    """
    moved, notes = list[tuple[Path, Path]](), list[str]()
    broken = {damage.entry.folder: damage.entry for damage in result.damages}
    intact = [entry for entry in result.entries if entry.manifest and entry.folder not in broken]
    for folder, entry in broken.items():
        place = folder.relative_to(data)
        if is_in_use(data, folder):
            notes.append(f"{place}: skipped, in use by another process")
            continue
        is_section = entry.kind == "section" and entry.manifest is not None
        damaged = dict.fromkeys(damage.path for damage in result.damages if damage.entry.folder == folder)
        for path in damaged:
            moved += _quarantined(data, path, stamp)
            if is_section:  # the note of the shard
                moved += _quarantined(data, path.with_suffix(".json"), stamp)
        if is_section:
            why = _rebuild(folder, intact, progress)
            if why is None:
                shards = ", ".join(sorted(path.name for path in damaged))
                notes.append(f"{place}: {shards} recomputed")
                continue
            notes.append(f"{place}: not rebuilt, because {why}")
        moved += _quarantined(data, folder / MANIFEST, stamp)
        notes.append(f"{place}: now unfinished; the next `headstart run` that needs it rebuilds it")
    return moved, notes


def _rebuild(folder: Path, intact: list[Entry], progress: Progress) -> str | None:
    """Recompute the missing shards of a section; return why it is still incomplete, or None."""
    try:
        section, _ = section_at(folder)
    except (HeadstartError, KeyError, TypeError) as error:
        return f"its manifest does not describe features ({error!r})"
    sources, missing = sources_of(section.fingerprint, intact)
    if missing:
        return missing
    request = {**section.base, "layers": list(section.layers), "views": [section.view]}
    arguments = {"request": request, "folder": str(section.cache), **sources}
    try:
        run_in_child("pipeline.features.extract:extract", arguments, progress)
    except HeadstartError as error:
        return str(error)
    return section.why_missing()


def _quarantined(data: Path, path: Path, stamp: str) -> list[tuple[Path, Path]]:
    """Move a file, or the first link on its path, to quarantine/<stamp>/; return (from, to) if it exists."""
    folder = data / QUARANTINE
    if folder.is_symlink():
        raise HeadstartError(f"{folder}: expected a folder, found a link; remove it and repair again")
    parts = [part for part in (*reversed(path.parents), path) if data in part.parents]
    source = next((part for part in parts if part.is_symlink()), path)
    if not source.is_symlink() and not source.is_file():
        return []
    target = folder / stamp / source.relative_to(data)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    return [(source, target)]
