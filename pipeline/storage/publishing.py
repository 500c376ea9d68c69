"""The one way in which files come into being: whole or not at all.

A file is written to a scratch name beside its target, with the same suffix, flushed to the disk and
renamed over the target. A folder is finished by its manifest, written last, which lists every file with
size and sha256 and carries the whole fingerprint. A folder without a valid manifest is not there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.errors import DamagedFile, HeadstartError
from pipeline.storage.fingerprint import canonical, digest_of_values, first_difference, key_of
from pipeline.storage.layout import MANIFEST as MANIFEST

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_FORMAT = 1
SEAL = "seal"
SCRATCH_MARK = ".scratch-"
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextlib.contextmanager
def published(target: Path) -> Iterator[Path]:
    """Yield a scratch path beside target; when the block ends well, it becomes target at once.

    The scratch file has target's suffix, for the libraries that look at it. When the block raises,
    the scratch file is removed and target stays as it was. Scratch files that dead processes of this
    machine left for the same target are swept first. Raises HeadstartError when the block wrote nothing
    and when the disk is full or read-only.
    """
    target = Path(target)
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for old in target.parent.glob(f".{target.stem}{SCRATCH_MARK}*{target.suffix}"):
            if is_left_behind(old):
                old.unlink(missing_ok=True)
    name = f"{process_name()}-{uuid.uuid4().hex[:8]}"
    scratch = target.parent / f".{target.stem}{SCRATCH_MARK}{name}{target.suffix}"
    try:
        with explained(target):
            yield scratch
            if not scratch.exists():
                raise HeadstartError(f"{target}: nothing was written to publish")
            with scratch.open("rb") as file:  # a linked file may be read-only
                os.fsync(file.fileno())
            scratch.replace(target)
            _sync_folder(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the lock file at path; a second process that claims it waits until the first is done.

    The claim is a lock of the operating system, so it ends with the process that holds it.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path).acquire()
    with lock:
        yield


def publish_text(target: Path, text: str) -> None:
    """Write text (UTF-8) to target, whole or not at all."""
    with published(target) as scratch:
        scratch.write_text(text, encoding="utf-8")


def publish_json(target: Path, value: Any) -> None:
    """Write value as indented JSON with sorted keys to target, whole or not at all."""
    publish_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def publish_csv(target: Path, table: pd.DataFrame) -> None:
    """Write a table without its index as CSV to target, whole or not at all."""
    with published(target) as scratch:
        table.to_csv(scratch, index=False)


def publish_sealed(target: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with a digest of itself to target, whole or not at all; see read_sealed."""
    publish_json(target, {**value, SEAL: digest_of_values(value)})


def read_sealed(path: Path, what: str = "JSON object") -> dict[str, Any]:
    """Return a JSON object without its seal; one without a seal, from before there were any, is taken.

    Raises DamagedFile where there is no file, it is no JSON object, or it is not what was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedFile(f"{path}: expected a {what}, found none") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path}: could not be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a {what} of this project ({error!r})") from error
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: not a {what} of this project ({type(content).__name__})")
    seal = content.pop(SEAL, None)
    if seal is not None and seal != digest_of_values(content):
        raise DamagedFile(f"{path}: its content is not what was written; delete it and run again")
    return content


@contextlib.contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turn an OSError of the disk into a HeadstartError that names target and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FAULTS or any(os.strerror(fault) in str(error) for fault in DISK_FAULTS):
            raise HeadstartError(
                f"{target}: could not be written ({error.strerror or error}); nothing was published. "
                "Make room or make the folder writable, or set HEADSTART_DATA_DIR to another one"
            ) from error
        raise


def is_scratch(path: Path) -> bool:
    """Say whether the name of path is that of a scratch file."""
    return path.name.startswith(".") and SCRATCH_MARK in path.name


def is_left_behind(scratch: Path) -> bool:
    """Say whether path is a scratch file whose process, on this machine, is gone."""
    if not is_scratch(scratch):
        return False
    host, _, pid = scratch.name.split(SCRATCH_MARK)[1].rsplit("-", 1)[0].rpartition("_")
    return host == _host() and pid.isdigit() and not _alive(int(pid))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits, reading a megabyte at a time."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Return the digest of a file's bytes under a hashlib algorithm, as hex digits."""
    digest = hashlib.new(algorithm)
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What a finished folder holds: its fingerprint, its files with bytes and sha256, and facts about it."""

    folder: Path
    fingerprint: dict[str, Any]
    files: dict[str, dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The fingerprint's key."""
        return key_of(self.fingerprint)

    @property
    def bytes(self) -> int:
        """The size of all files together, in bytes."""
        return sum(entry["bytes"] for entry in self.files.values())

    def missing(self) -> str | None:
        """Return in words the first listed file that is absent or of another size, or None."""
        for name, entry in self.files.items():
            path = self.folder / name
            if not _is_file(path):
                return f"{path}: expected {entry['bytes']} bytes, found no file"
            if path.stat().st_size != entry["bytes"]:
                return f"{path}: expected {entry['bytes']} bytes, found {path.stat().st_size}"
        return None

    def verified(self, name: str) -> Path:
        """Return the path of a listed file whose bytes were just checked; raise DamagedFile otherwise."""
        path = self.folder / name
        if name not in self.files:
            raise DamagedFile(f"{path}: not listed in {self.folder / MANIFEST}")
        if not _is_file(path):
            raise DamagedFile(f"{path}: expected a file, found none; delete {self.folder} and run again")
        found = sha256_of(path)
        if found != self.files[name]["sha256"]:
            raise DamagedFile(
                f"{path}: expected sha256 {self.files[name]['sha256']}, found {found}; "
                f"the file was changed or damaged: delete it and run again"
            )
        return path


def describe_file(path: Path) -> dict[str, Any]:
    """Return the manifest entry of a file: its size in bytes and its sha256."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def publish_manifest(
    folder: Path,
    fingerprint: dict[str, Any],
    files: list[str] | dict[str, dict[str, Any]],
    facts: dict[str, Any] | None = None,
) -> Manifest:
    """Finish folder by writing its manifest; files are names in it, or entries that are known already."""
    entries = files if isinstance(files, dict) else {name: describe_file(folder / name) for name in files}
    about = {"format": MANIFEST_FORMAT, "key": key_of(fingerprint), "fingerprint": fingerprint}
    publish_sealed(folder / MANIFEST, {**about, "files": entries, "facts": facts or {}})
    return read_manifest(folder)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of folder; raise DamagedFile when there is none or it is not one."""
    path = Path(folder) / MANIFEST
    content = read_sealed(path, "manifest")
    try:
        manifest = Manifest(Path(folder), content["fingerprint"], content["files"], content["facts"])
        sound = content["format"] == MANIFEST_FORMAT and content["key"] == manifest.key
        sound = sound and all(_sound_entry(name, entry) for name, entry in manifest.files.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a manifest of this project ({error!r})") from error
    if not (isinstance(manifest.fingerprint, dict) and isinstance(manifest.facts, dict)):
        raise DamagedFile(
            f"{path}: not a manifest of this project (its fingerprint or its facts are no object)"
        )
    if not sound:
        raise DamagedFile(f"{path}: its key does not match its fingerprint, or an entry is malformed")
    return manifest


def why_incomplete(folder: Path, fingerprint: dict[str, Any]) -> str | None:
    """Return in words why folder does not hold the result of fingerprint, or None when it does."""
    try:
        manifest = read_manifest(folder)
    except DamagedFile as error:
        return str(error)
    if canonical(manifest.fingerprint) != canonical(fingerprint):
        return f"{folder}: {first_difference(manifest.fingerprint, fingerprint)}"
    return manifest.missing()


def whole_files(folder: Path, facts: dict[str, Any]) -> set[str]:
    """Return the files of folder that are as its manifest says; none where the manifest has other facts."""
    try:
        manifest = read_manifest(folder)
    except DamagedFile:
        return set()
    if manifest.facts != facts:
        return set()
    there = {name: entry for name, entry in manifest.files.items() if _is_file(folder / name)}
    return {name for name, entry in there.items() if describe_file(folder / name) == entry}


def _is_file(path: Path) -> bool:
    """Say whether path is a file; a name that no disk takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _sound_entry(name: str, entry: dict[str, Any]) -> bool:
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    return inside and isinstance(entry["bytes"], int) and len(entry["sha256"]) == 64


def _host() -> str:
    return socket.gethostname().replace("_", "-").replace(os.sep, "-") or "host"


def process_name() -> str:
    """Return a name of this process that no other running process has, on this machine or another."""
    return f"{_host()}_{os.getpid()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a platform that cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
