"""Check every file that a manifest lists, and a sample of cached features against their images; repair."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.children import run_in_child
from pipeline.errors import DamagedFile, HeadstartError
from pipeline.features.sections import section_at
from pipeline.progress import Progress, silent
from pipeline.storage.fingerprint import canonical
from pipeline.storage.layout import QUARANTINE
from pipeline.storage.publishing import MANIFEST
from pipeline.upkeep.inventory import Damage, Entry, damages, entries, is_in_use, unlisted


@dataclass(frozen=True)
class ComparedRows:
    """How far a section's sampled rows are from their images; refused says why they were not recomputed.

    layers has the largest absolute and relative difference by layer; see features.verify.
    """

    folder: Path
    refused: str | None = None
    rows: int = 0
    layers: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """What was found: all entries, the damaged files, files that nobody lists, and recomputed rows."""

    entries: list[Entry]
    damages: list[Damage]
    unlisted: list[Path]
    compared: list[ComparedRows]


def verify(data: Path, *, sample: int, seed: int, progress: Progress = silent) -> Verification:
    """Check a data folder, which may be empty or absent; up to sample rows of each section are recomputed."""
    known = entries(data)
    found, sound = [], []
    for done, entry in enumerate(known):
        progress("check files", done, len(known), "folders")
        damaged = damages(data, entry)
        found += damaged
        sound += [entry] if entry.manifest and not damaged else []
    compared, wrong = _compare_rows(sound, sample, seed, progress)
    return Verification(known, found + wrong, unlisted(data, known), compared)


def _compare_rows(
    sound: list[Entry], sample: int, seed: int, progress: Progress
) -> tuple[list[ComparedRows], list[Damage]]:
    """Recompute rows of the sections among sound entries in one child process."""
    found, orders, asked, wrong = [], [], [], []
    for entry in sound if sample else ():
        if entry.kind != "section" or entry.manifest is None:
            continue
        sources, lacking = sources_of(entry.manifest.fingerprint, sound)
        if lacking:
            found.append(ComparedRows(entry.folder, refused=f"{lacking} not in the data folder"))
        else:
            orders.append({"folder": str(entry.folder), **sources})
            asked.append(entry)
    arguments = {"sections": orders, "sample": sample, "seed": seed}
    try:
        function = "pipeline.features.verify:compare_sections"
        answers = run_in_child(function, arguments, progress) if orders else []
    except HeadstartError as error:  # the process died, such as for want of memory
        answers = [{"refused": " ".join(str(error).splitlines()[:1])}] * len(orders)
    for entry, answer in zip(asked, answers, strict=True):
        row = {name: answer[name] for name in ("refused", "rows", "layers") if name in answer}
        found.append(ComparedRows(entry.folder, **row))
        damaged = answer.get("damaged", {})
        wrong += [Damage(entry, entry.folder / name, why) for name, why in damaged.items()]
    return sorted(found, key=lambda row: row.folder), wrong


def sources_of(fingerprint: dict[str, Any], sound: list[Entry]) -> tuple[dict[str, str], str | None]:
    """Return the folders {dataset, weights} that features were made from, and in words what is not there."""
    folders, wanted = {}, fingerprint.get("weights")
    for entry in sound:
        has = entry.manifest.fingerprint if entry.manifest else {}
        if entry.kind == "dataset" and canonical(has) == canonical(fingerprint.get("dataset")):
            folders["dataset"] = str(entry.folder)
        same = isinstance(wanted, dict) and has.get("identity") == wanted.get("identity")
        if entry.kind == "weights" and same and has.get("backbone") == fingerprint.get("backbone"):
            folders["weights"] = str(entry.folder)
    words = {"dataset": "the prepared data set is", "weights": "the weights are"}
    return folders, next((words[name] for name in words if name not in folders), None)


@dataclass(frozen=True)
class Repair:
    """What a repair did: moved files as (from, to), and in words what was rebuilt, left or comes next."""

    moved: list[tuple[Path, Path]]
    words: list[str]


def repair(data: Path, found: Verification, *, stamp: str, progress: Progress = silent) -> Repair:
    """Move damaged files to quarantine/<stamp>/ and rebuild what the data folder has the sources for.

    Of features only the damaged shards are computed again; anything else is left for the next run, which
    finds it unfinished. Folders that a living process works on are left as they are.
    """
    done = Repair([], [])
    for folder in dict.fromkeys(damage.entry.folder for damage in found.damages):
        damaged = [damage for damage in found.damages if damage.entry.folder == folder]
        place = folder.relative_to(data)
        if is_in_use(data, folder):
            done.words.append(f"{place}: in use by another process, left as it is")
            continue
        entry = damaged[0].entry
        features = entry.kind == "section" and entry.manifest
        if features and _rebuilt(data, found, damaged, stamp, done, progress):
            continue
        for path in dict.fromkeys([*(damage.path for damage in damaged), folder / MANIFEST]):
            quarantine(data, path, stamp, done)
        done.words.append(f"{place}: unfinished now; the next `headstart run` that needs it makes it again")
    return done


def _rebuilt(
    data: Path, found: Verification, damaged: list[Damage], stamp: str, done: Repair, progress: Progress
) -> bool:
    """Compute the damaged shards of a section again; say whether it is whole then."""
    entry = damaged[0].entry
    place = entry.folder.relative_to(data)
    try:
        section, _ = section_at(entry.folder)
    except (DamagedFile, KeyError, TypeError):
        return False
    for damage in damaged:
        for path in (damage.path, damage.path.with_suffix(".json")):  # the note of a shard
            quarantine(data, path, stamp, done)
    broken = {damage.entry.folder for damage in found.damages}
    sound = [other for other in found.entries if other.manifest and other.folder not in broken]
    sources, lacking = sources_of(section.fingerprint, sound)
    if lacking:
        done.words.append(f"{place}: not rebuilt, {lacking} not in the data folder")
        return False
    columns = {"base": section.base, "layers": list(section.layers), "views": [section.view]}
    request = {**columns, "folder": str(section.cache), **sources}
    try:
        run_in_child("pipeline.features.extract:extract", request, progress)
    except HeadstartError as error:
        done.words.append(f"{place}: not rebuilt: {error}")
        return False
    if section.why_missing():
        return False
    shards = ", ".join(sorted(damage.path.name for damage in damaged))
    done.words.append(f"{place}: {shards} computed again")
    return True


def quarantine(data: Path, path: Path, stamp: str, done: Repair) -> None:
    """Move a file, or the link that a path goes through, to quarantine/<stamp>/; nothing where it is gone."""
    if (data / QUARANTINE).is_symlink():
        raise HeadstartError(
            f"{data / QUARANTINE}: expected a folder, found a link; nothing was moved through it"
        )
    way = [step for step in (*reversed(path.parents), path) if data in step.parents]
    place = next((step for step in way if step.is_symlink()), path)
    if not place.is_symlink() and not place.is_file():
        return
    target = data / QUARANTINE / stamp / place.relative_to(data)
    target.parent.mkdir(parents=True, exist_ok=True)
    place.rename(target)
    done.moved.append((place, target))
