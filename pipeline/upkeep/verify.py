"""Check every file that a manifest lists, the sources of picture folders and a sample of the cached features,
and repair damage.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.children import run_in_child
from pipeline.datasets.folders import check_index
from pipeline.errors import HeadstartError
from pipeline.features.sections import section_at
from pipeline.progress import Progress, silent
from pipeline.storage.fingerprint import canonical
from pipeline.storage.layout import INDEX, QUARANTINE
from pipeline.storage.publishing import MANIFEST
from pipeline.upkeep.inventory import Damage, Entry, damages, entries, is_in_use, unlisted


@dataclass(frozen=True)
class ComparedRows:
    """How much a section's sampled rows differ from recomputed ones; skipped says why there are none.

    layers has the largest absolute and relative difference by layer; see features.verify.
    """

    folder: Path
    skipped: str | None = None
    rows: int = 0
    layers: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """All entries, the damaged files, the files that no manifest lists, the recomputed rows, and the sources:
    picture folders whose files differ from their index, see folders.check_index.
    """

    entries: list[Entry]
    damages: list[Damage]
    unlisted: list[Path]
    compared: list[ComparedRows]
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
) -> tuple[list[ComparedRows], list[Damage]]:
    """Recompute rows of the intact sections in one child process."""
    compared, requests, sections, damaged = [], [], [], []
    for entry in intact if sample else ():
        if entry.kind != "section" or entry.manifest is None:
            continue
        sources, missing = sources_of(entry.manifest.fingerprint, intact)
        if missing:
            compared.append(ComparedRows(entry.folder, skipped=f"{missing} not in the data folder"))
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
        rows, layers = result.get("rows", 0), result.get("layers", {})
        compared.append(ComparedRows(entry.folder, result.get("refused"), rows, layers))
        files = result.get("damaged", {})
        damaged += [Damage(entry, entry.folder / name, why) for name, why in files.items()]
    return sorted(compared, key=lambda row: row.folder), damaged


def sources_of(fingerprint: dict[str, Any], intact: list[Entry]) -> tuple[dict[str, str], str | None]:
    """Return the folders {dataset, weights} of a section's sources, and a phrase for one that is missing."""
    folders, weights = {}, {name: fingerprint.get(name) for name in ("backbone", "weights")}
    for entry in intact:
        stored = entry.manifest.fingerprint if entry.manifest else {}
        if entry.kind == "dataset" and canonical(stored) == canonical(fingerprint.get("dataset")):
            folders["dataset"] = str(entry.folder)
        if entry.kind == "weights" and canonical(stored) == canonical(weights):
            folders["weights"] = str(entry.folder)
    phrases = {"dataset": "the prepared data set is", "weights": "the weights are"}
    return folders, next((phrases[name] for name in phrases if name not in folders), None)


@dataclass(frozen=True)
class Repair:
    """What a repair did: moved files as (from, to), and notes on what was rebuilt or skipped."""

    moved: list[tuple[Path, Path]]
    notes: list[str]


def repair(data: Path, result: Verification, *, stamp: str, progress: Progress = silent) -> Repair:
    """Move damaged files to quarantine/<stamp>/ and rebuild features whose sources are in the data folder.

    Only the damaged shards of a section are recomputed. Any other folder becomes unfinished, so the next run
    that needs it makes it again. Folders in use by a running process are skipped.
    """
    repaired = Repair([], [])
    broken = {damage.entry.folder: damage.entry for damage in result.damages}
    intact = [entry for entry in result.entries if entry.manifest and entry.folder not in broken]
    for folder, entry in broken.items():
        place = folder.relative_to(data)
        if is_in_use(data, folder):
            repaired.notes.append(f"{place}: skipped, in use by another process")
            continue
        is_section = entry.kind == "section" and entry.manifest is not None
        damaged = dict.fromkeys(damage.path for damage in result.damages if damage.entry.folder == folder)
        for path in damaged:
            quarantine(data, path, stamp, repaired)
            if is_section:  # the note of the shard
                quarantine(data, path.with_suffix(".json"), stamp, repaired)
        if is_section:
            why = _rebuild(folder, intact, progress)
            if why is None:
                shards = ", ".join(sorted(path.name for path in damaged))
                repaired.notes.append(f"{place}: {shards} recomputed")
                continue
            repaired.notes.append(f"{place}: not rebuilt, because {why}")
        quarantine(data, folder / MANIFEST, stamp, repaired)
        repaired.notes.append(f"{place}: now unfinished; the next `headstart run` that needs it rebuilds it")
    return repaired


def _rebuild(folder: Path, intact: list[Entry], progress: Progress) -> str | None:
    """Recompute the missing shards of a section; return why it is still incomplete, or None."""
    try:
        section, _ = section_at(folder)
    except (HeadstartError, KeyError, TypeError) as error:
        return f"its manifest does not describe features ({error!r})"
    sources, missing = sources_of(section.fingerprint, intact)
    if missing:
        return f"{missing} not in the data folder"
    columns = {"base": section.base, "layers": list(section.layers), "views": [section.view]}
    request = {**columns, "folder": str(section.cache), **sources}
    try:
        run_in_child("pipeline.features.extract:extract", request, progress)
    except HeadstartError as error:
        return str(error)
    return section.why_missing()


def quarantine(data: Path, path: Path, stamp: str, repaired: Repair) -> None:
    """Move a file, or the first link on its path, to quarantine/<stamp>/ if it exists."""
    folder = data / QUARANTINE
    if folder.is_symlink():
        raise HeadstartError(f"{folder}: expected a folder, found a link; remove it and repair again")
    parts = [part for part in (*reversed(path.parents), path) if data in part.parents]
    source = next((part for part in parts if part.is_symlink()), path)
    if not source.is_symlink() and not source.is_file():
        return
    target = folder / stamp / source.relative_to(data)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    repaired.moved.append((source, target))
