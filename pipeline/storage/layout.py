"""The layout of the data folder: the one place that knows which folder and which file lies where.

Folders of the graph are named `<place>-<key>`; a place is a path below the data folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.storage.fingerprint import key_of

KEYED = r"[^/.][^/]*-[0-9a-f]{12}"
KINDS = {  # kind of folder: the folder below the data folder that holds all of them, and their names
    "download": ("raw", KEYED),
    "weights": ("raw/weights", KEYED),
    "dataset": ("datasets", KEYED),
    "cache": ("features", KEYED),
    "section": ("features", rf"{KEYED}/{KEYED}"),
    "run": ("runs", KEYED),
    "sweep": ("sweeps", KEYED),
    "study": ("studies", KEYED),
    "recipe": ("recipes", r"[^/.][^/]*"),
    "curve": ("curves", KEYED),
    "metrics": ("reports/runs", rf"{KEYED}/metrics"),
    "plots": ("reports/runs", rf"{KEYED}/plots"),
    "findings": ("reports/runs", rf"{KEYED}/findings"),
    "atlas": ("reports/atlas", KEYED),
    "labels": ("reports/labels", KEYED),
    "seeds": ("reports/seeds", KEYED),
    "blocks": ("reports/blocks", KEYED),
    "comparison": ("reports", r"(?!(?:runs|atlas|labels|seeds|blocks)$)[^/.][^/]*"),
}
TRAINED = ("run", "sweep", "curve", "study")  # kinds that read images and features
OWN_PAGES = ("README.md", ".gitignore")

LOCKS = ".locks"  # below the data folder and below a section of features
INDEX = ".folders"  # what is known of the files of folders of pictures
MAPPED = ".mapped"  # below a cache: copies of its features that can be mapped into memory
QUARANTINE = "quarantine"
MANIFEST = "manifest.json"  # in every finished folder

# Files that others than the modules that write them read, too.
COSTS, RECIPE, MODEL, CHECKPOINT = "costs.json", "recipe.json", "model.keras", "checkpoint.npz"


def kind_of(place: str) -> str | None:
    """Return the kind of folder that belongs at a place below the data folder, None for no kind."""
    patterns = {kind: f"{folder}/{name}" for kind, (folder, name) in KINDS.items()}
    return next((kind for kind, pattern in patterns.items() if re.fullmatch(pattern, place)), None)


def folder_of(kind: str) -> str:
    """Return the folder below the data folder that holds all of a kind, such as runs or raw/weights."""
    return KINDS[kind][0]


def keyed(data: Path, place: str, fingerprint: Any) -> Path:
    """Return the folder of a place and the key of a fingerprint."""
    return data / f"{place}-{key_of(fingerprint)}"


def finished(data: Path, kind: str) -> Iterator[Path]:
    """Yield the folders of a kind that have a manifest, by name."""
    for path in sorted((data / folder_of(kind)).glob(f"*/{MANIFEST}")):
        yield path.parent


def begun(data: Path, kind: str) -> list[Path]:
    """Return the folders of a kind, finished or not, by name."""
    return [path for path in sorted((data / folder_of(kind)).glob("*")) if path.is_dir()]


def finished_by_key(data: Path, kind: str, key: str) -> Path | None:
    """Return the finished folder of a kind that has a key, None where there is none."""
    return next((folder for folder in finished(data, kind) if folder.name.endswith(f"-{key}")), None)


def weights_place(backbone: str, name: str) -> str:
    """Return the place of a backbone's weights."""
    return f"{folder_of('weights')}/{backbone}-{name}"


def recipes_folder(data: Path) -> Path:
    """Return the folder of the recipes that searches left."""
    return data / folder_of("recipe")


def raw_folder(data: Path) -> Path:
    """Return the folder of downloads, in which people put their own copies, too."""
    return data / folder_of("download")


def report_folder(data: Path, name: str) -> Path:
    """Return the folder of a comparison."""
    return data / folder_of("comparison") / name


def run_reports(data: Path, run: Path) -> Path:
    """Return the folder of what is derived from one run."""
    return data / folder_of("metrics") / run.name


def lock_of(data: Path, folder: Path) -> Path:
    """Return the lock file that a process holds while it makes a folder."""
    return data / LOCKS / f"{'-'.join(folder.relative_to(data).parts)}.lock"


def locks_of_kinds(data: Path, kinds: Iterable[str]) -> list[Path]:
    """Return the lock files that are there for folders of some kinds."""
    starts = {"-".join(Path(folder_of(kind)).parts) for kind in kinds}
    return [lock for start in starts for lock in (data / LOCKS).glob(f"{start}-*.lock")]


def made(data: Path) -> list[Path]:
    """Return the folders of all that the graph makes, downloads excepted."""
    rooms = dict.fromkeys(folder.partition("/")[0] for folder, _ in KINDS.values())
    return [data / name for name in (*rooms, LOCKS, INDEX) if name != folder_of("download")]
