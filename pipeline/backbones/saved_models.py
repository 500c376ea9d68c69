"""Saved Keras models of users as backbones.

A child process describes a model once. The description is kept under the name of the backbone: the file's
name and the start of the sha256 of its architecture and weights. The file is needed only until its weights
are in the data folder.
"""

import contextlib
import functools
import hashlib
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from pipeline.children import run_in_child
from pipeline.errors import BadInput, DamagedFile
from pipeline.storage.publishing import publish_sealed, read_sealed

FILE = "file:"  # prefix of a backbone that is a saved model
MODELS_VARIABLE = "HEADSTART_MODELS"  # the folder of descriptions; children inherit it
MEMBERS = ("config.json", "model.weights.h5")  # of a .keras file: architecture and weights


def describe_saved(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the name and the facts of a .keras file; raise BadInput if it is not one or contains code."""
    if not path.is_file():
        raise BadInput(f"backbone {FILE}{path}: expected a model that Keras saved, but the file is missing")
    path = path.resolve()
    digest = _digest(path, path.stat().st_ctime_ns)
    name = f"{re.sub(r'[^A-Za-z0-9]+', '_', path.stem)[:40]}-{digest[:12]}"
    request = {"location": str(path)}
    facts = description(name) or run_in_child("pipeline.backbones.describe:describe_file", request)
    if facts["row"].get("location") != str(path):  # also after the file was moved
        facts["row"]["location"] = str(path)
        publish_sealed(Path(os.environ[MODELS_VARIABLE]) / f"{name}.json", facts)
    return name, facts


def description(name: str) -> dict[str, Any] | None:
    """Return the facts of the saved model with this name, None if it was not described here."""
    with contextlib.suppress(DamagedFile, KeyError):
        if re.fullmatch(r"\w+-[0-9a-f]{12}", name):
            return _read(Path(os.environ[MODELS_VARIABLE]) / f"{name}.json")
    return None


_read = functools.lru_cache(maxsize=8)(read_sealed)


@functools.lru_cache(maxsize=8)
def _digest(path: Path, _changed: int) -> str:
    """Return the sha256, as hex digits, of the architecture and weights."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in MEMBERS:
                with archive.open(member) as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"backbone {FILE}{path}: expected a .keras file that Keras saved ({error})") from error
    return digest.hexdigest()
