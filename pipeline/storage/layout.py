"""The layout of the data folder: the only module that defines where folders and files are.

Folders of the graph are named `<place>-<key>`; a place is a path relative to the data folder.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.storage.fingerprint import key_of

KEYED = r"[^/.][^/]*-[0-9a-f]{12}"
KINDS = {  # kind of folder: the folder that holds all of them, relative to the data folder; name pattern
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
    "recommendation": ("reports/recommendation", KEYED),
    "labels": ("reports/labels", KEYED),
    "seeds": ("reports/seeds", KEYED),
    "blocks": ("reports/blocks", KEYED),
    "comparison": ("reports", r"(?!(?:runs|recommendation|labels|seeds|blocks)$)[^/.][^/]*"),
}
TRAINED_KINDS = ("run", "sweep", "curve", "study")  # kinds that read images and features
REPORT_INDEX = "reports/index.html"
# Files that no manifest lists: those of the repository, and the index page of all reports.
OWN_FILES = ("README.md", ".gitignore", REPORT_INDEX)

LOCKS = ".locks"  # in the data folder and in each section of features
CONTENT = "content"  # features of single pictures, by the sha256 of their pixels
FONTS = ".matplotlib"  # what Matplotlib knows about fonts
INDEX = ".folders"  # index of the files in folders of pictures
SPEED = ".speed.json"  # of this machine, measured once
MODELS = ".models"  # descriptions of users' saved models, by the names of their backbones
IDENTITIES = ".weights"  # identity of the arrays in users' files of weights, by sha256 of the file
QUARANTINE = "quarantine"
MANIFEST = "manifest.json"  # in every finished folder

# Files that are also read outside the module that writes them.
COSTS, RECIPE, MODEL, CHECKPOINT = "costs.json", "recipe.json", "model.keras", "checkpoint.npz"
CURVE, IMAGES_FILE = "curve.csv", "images.npy"


def kind_of(place: str) -> str | None:
    """Return the kind of the folder at a place, None if the place matches no kind."""
    patterns = {kind: f"{folder}/{name}" for kind, (folder, name) in KINDS.items()}
    return next((kind for kind, pattern in patterns.items() if re.fullmatch(pattern, place)), None)


def folder_of(kind: str) -> str:
    """Return the folder that holds all folders of a kind, relative to the data folder: runs, raw/weights."""
    return KINDS[kind][0]


def keyed_path(data: Path, place: str, fingerprint: Any) -> Path:
    """Return the path of the folder at a place with the key of a fingerprint."""
    return data / f"{place}-{key_of(fingerprint)}"


def finished(data: Path, kind: str) -> Iterator[Path]:
    """Yield the folders of a kind that have a manifest, sorted by name."""
    for path in sorted((data / folder_of(kind)).glob(f"*/{MANIFEST}")):
        yield path.parent


def list_folders(data: Path, kind: str) -> list[Path]:
    """Return the folders of a kind, finished or not, sorted by name."""
    return [path for path in sorted((data / folder_of(kind)).glob("*")) if path.is_dir()]


def run_reports(data: Path, run: Path) -> Path:
    """Return the folder of the reports on a run."""
    return data / folder_of("metrics") / run.name


def lock_of(data: Path, folder: Path) -> Path:
    """Return the lock file that a process holds while it creates a folder."""
    return data / LOCKS / f"{'-'.join(folder.relative_to(data).parts)}.lock"


def locks_of_kinds(data: Path, kinds: Iterable[str]) -> list[Path]:
    """Return the existing lock files for folders of some kinds."""
    prefixes = {"-".join(Path(folder_of(kind)).parts) for kind in kinds}
    return [lock for prefix in prefixes for lock in (data / LOCKS).glob(f"{prefix}-*.lock")]


def generated_folders(data: Path) -> list[Path]:
    """Return the folders of everything that the graph creates, except downloads."""
    parents = dict.fromkeys(folder.partition("/")[0] for folder, _ in KINDS.values())
    return [
        data / name
        for name in (*parents, LOCKS, FONTS, INDEX, IDENTITIES, MODELS, CONTENT, SPEED)
        if name != folder_of("download")
    ]
