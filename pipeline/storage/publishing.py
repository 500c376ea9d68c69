"""Atomic writes of files and folders; the rest of the project writes results only through this module.

A file is written to a scratch file beside its target, with the same suffix, flushed to disk and renamed to
the target. A folder is finished by its manifest, written last, which lists every file with size and sha256
and contains the full fingerprint. A folder without a valid manifest does not count as a result.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pipeline.errors import BadInput, DamagedFile, HeadstartError
from pipeline.formatting import cell_of, format_bytes
from pipeline.progress import Progress, silent
from pipeline.storage.fingerprint import canonical, differences, digest_of_values, key_of
from pipeline.storage.layout import MANIFEST as MANIFEST

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_FORMAT = 1
SEAL = "seal"
SCRATCH_MARK = ".scratch-"
LONGEST_SUFFIX = 12  # characters; ".saved_model"
is_file = os.path.isfile  # unlike Path.is_file, False for names that the file system does not support
LOCK_FAULTS = (errno.ENOLCK, errno.EOPNOTSUPP)
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextlib.contextmanager
def published(target: Path) -> Iterator[Path]:
    """Yield a path beside target for a file or folder; if the block succeeds, rename it to target atomically.

    The scratch file has target's suffix, because some libraries depend on it. When the block raises, the
    scratch file and a new, empty folder are removed and target is unchanged. Scratch files of dead processes
    on this machine for the same target are removed first. Raises HeadstartError when the block wrote nothing
    and when the disk is full or read-only.
    """
    target = Path(target)
    is_new = not target.parent.exists()
    with explain_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        stem = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}{SCRATCH_MARK}"  # of any length
        for old in target.parent.glob(f"{stem}*"):
            if is_orphaned(old):
                _remove(old)
    scratch = target.parent / f"{stem}{process_name()}-{uuid.uuid4().hex[:8]}{target.suffix[:LONGEST_SUFFIX]}"
    try:
        with explain_disk_errors(target):
            yield scratch
            if not scratch.exists():
                raise HeadstartError(f"{target}: no file was written")
            _sync(scratch)
            scratch.replace(target)
            _sync(target.parent)
    finally:
        _remove(scratch)
        if is_new:
            with contextlib.suppress(OSError):
                target.parent.rmdir()  # fails unless nothing was written


def check_publishable(target: Path) -> None:
    """Raise BadInput, before any work is done, if no file could be published at target."""
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(target.stat().st_mode):
                raise OSError(errno.EEXIST, "it is a folder or a device")
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        expected = "expected a file in an existing folder that can be written"
        raise BadInput(f"{target}: {expected} ({error.strerror})") from None


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the lock file at path; other processes that claim it wait until it is released.

    It is a lock of the operating system, so it is released when the process that holds it ends.
    """
    with explain_disk_errors(path):
        lock = FileLock(path).acquire()
    with lock:
        yield


def is_held(lock: Path | str, progress: Progress = silent) -> bool:
    """Return whether a running process holds an existing lock file, or may because files cannot be locked."""
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError as error:  # False where the file system is read-only and nothing is made
        return error.errno in LOCK_FAULTS


def publish_text(target: Path, text: str) -> None:
    """Write text (UTF-8; bytes of names that are not are escaped) to target atomically."""
    with published(target) as scratch:
        scratch.write_text(text, encoding="utf-8", errors="backslashreplace")


def publish_json(target: Path, value: Any) -> None:
    """Write value as indented JSON with sorted keys to target atomically."""
    publish_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def publish_csv(target: Path, table: pd.DataFrame) -> None:
    """Write a table without its index as CSV to target atomically; no spreadsheet computes its texts."""
    cells = table.apply(lambda column: column.map(cell_of) if column.dtype.kind == "O" else column)
    with published(target) as scratch:
        cells.to_csv(scratch, index=False)


def publish_sealed(target: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with a digest of its content to target atomically; see read_sealed."""
    publish_json(target, {**value, SEAL: digest_of_values(value)})


def read_sealed(path: Path, kind: str = "JSON object") -> dict[str, Any]:
    """Return a JSON object without its seal; one from an old version, which has no seal, is accepted.

    Raises DamagedFile when the file is missing, is not a JSON object, or does not match its seal.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedFile(f"{path}: file is missing, expected a {kind}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path}: could not be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a {kind} of this project ({error!r})") from error
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: not a {kind} of this project ({type(content).__name__})")
    seal = content.pop(SEAL, None)
    with contextlib.suppress(ValueError):  # JSON's NaN and infinity have no digest
        if seal in (None, digest_of_values(content)):
            return content
    raise DamagedFile(f"{path}: content does not match its seal; delete the file and run again")


@contextlib.contextmanager
def explain_disk_errors(target: Path) -> Iterator[None]:
    """Turn an OSError of the disk, or of a lock, into a HeadstartError: it names target and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in LOCK_FAULTS:
            raise HeadstartError(
                f"{target}: the file system does not lock files ({error.strerror}), so work could be done "
                "twice. Mount it with locks (NFS version 4, or 3 with lockd), or set HEADSTART_DATA_DIR to "
                "another folder"
            ) from error
        if error.errno in DISK_FAULTS or any(os.strerror(fault) in str(error) for fault in DISK_FAULTS):
            raise HeadstartError(
                f"{target}: could not be written ({error.strerror or error}); nothing was published. "
                "Free up space or make the folder writable, or set HEADSTART_DATA_DIR to another folder"
            ) from error
        raise


def check_free_space(folder: Path, needed: int, what: str) -> None:
    """Raise HeadstartError if the disk of a folder, which may not exist yet, has less than needed bytes free.

    A tenth of the disk's free space is left for everything else.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > 0.9 * free:
        raise HeadstartError(
            f"{folder}: {what} will take about {format_bytes(needed)}, but only {format_bytes(free)} are "
            "free; make room (`headstart clean`) or set HEADSTART_DATA_DIR to a folder on a larger disk"
        )


def is_scratch(path: Path) -> bool:
    """Return whether path has the name of a scratch file."""
    return path.name.startswith(".") and SCRATCH_MARK in path.name


def is_orphaned(scratch: Path) -> bool:
    """Return whether path is a scratch file of a process on this machine that no longer exists."""
    if not is_scratch(scratch):
        return False
    host, _, pid = scratch.name.split(SCRATCH_MARK)[1].rsplit("-", 1)[0].rpartition("_")
    if host != _host() or not pid.isdigit():
        return False
    try:
        with contextlib.suppress(PermissionError):  # it belongs to another user
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Return the digest of a file's bytes by a hashlib algorithm, as hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """The content of a finished folder: fingerprint, files with bytes and sha256, and facts."""

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
        """Return a message on the first listed file that is missing or has the wrong size, or None."""
        faults = ((name, self.fault(name, read=False)) for name in self.files)
        return next((f"{self.folder / name}: {why}" for name, why in faults if why), None)

    def verified(self, name: str, *, read: bool = True) -> Path:
        """Check a listed file as fault does and return its path; raise DamagedFile if it does not match."""
        path = self.folder / name
        if name not in self.files:
            raise DamagedFile(f"{path}: not listed in {self.folder / MANIFEST}")
        if why := self.fault(name, read=read):
            raise DamagedFile(f"{path}: {why}; the file was changed or damaged: delete it and run again")
        return path

    def fault(self, name: str, *, read: bool = True) -> str | None:
        """Return how a listed file differs in size or, unless it is not to be read, in sha256; or None."""
        entry, path = self.files[name], self.folder / name
        size = path.stat().st_size if is_file(path) else "no file"
        if size != entry["bytes"]:
            return f"expected {entry['bytes']} bytes, found {size}"
        digest = sha256_of(path) if read else entry["sha256"]
        return None if digest == entry["sha256"] else f"expected sha256 {entry['sha256']}, found {digest}"


def describe_file(path: Path) -> dict[str, Any]:
    """Return the manifest entry of a file: its size in bytes and its sha256."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def publish_manifest(
    folder: Path,
    fingerprint: dict[str, Any],
    files: list[str] | dict[str, dict[str, Any]],
    facts: dict[str, Any] | None = None,
) -> Manifest:
    """Finish folder by writing its manifest; files are names in it, or their manifest entries."""
    entries = files if isinstance(files, dict) else {name: describe_file(folder / name) for name in files}
    header = {"format": MANIFEST_FORMAT, "key": key_of(fingerprint), "fingerprint": fingerprint}
    publish_sealed(folder / MANIFEST, {**header, "files": entries, "facts": facts or {}})
    return read_manifest(folder)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of folder; raise DamagedFile if it is missing or not valid."""
    path = Path(folder) / MANIFEST
    content = read_sealed(path, "manifest")
    try:
        manifest = Manifest(Path(folder), content["fingerprint"], content["files"], content["facts"])
        valid = content["format"] == MANIFEST_FORMAT and content["key"] == manifest.key
        paths, entries = [Path(name) for name in manifest.files], manifest.files.values()
        valid = valid and not any(inner.is_absolute() or ".." in inner.parts for inner in paths)
        valid = valid and all(isinstance(one["bytes"], int) and len(one["sha256"]) == 64 for one in entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a manifest of this project ({error!r})") from error
    if not (isinstance(manifest.fingerprint, dict) and isinstance(manifest.facts, dict)):
        raise DamagedFile(
            f"{path}: not a manifest of this project (expected objects as fingerprint and facts)"
        )
    if not valid:
        raise DamagedFile(f"{path}: its key does not match its fingerprint, or an entry is malformed")
    return manifest


def why_incomplete(folder: Path, fingerprint: dict[str, Any], sealed: Sequence[str] = ()) -> str | None:
    """Return why folder lacks the result of fingerprint or a valid sealed file; None if it has both."""
    try:
        manifest = read_manifest(folder)
        for name in sealed:
            read_sealed(folder / name)
    except DamagedFile as error:
        return str(error)
    if canonical(manifest.fingerprint) != canonical(fingerprint):
        named = differences(manifest.fingerprint, fingerprint)
        return f"{folder}: {named[0] if named else 'its fingerprint has another structure'}"
    return manifest.missing()


def undamaged_files(folder: Path, facts: dict[str, Any] | None = None) -> set[str]:
    """Return the files of folder that match its manifest; an empty set if that does not have these facts."""
    try:
        manifest = read_manifest(folder)
    except DamagedFile:
        return set()
    if facts not in (None, manifest.facts):
        return set()
    return {name for name in manifest.files if manifest.fault(name) is None}


def _host() -> str:
    return socket.gethostname().replace("_", "-").replace(os.sep, "-") or "host"


def process_name() -> str:
    """Return a name of this process that is unique among running processes on all machines."""
    return f"{_host()}_{os.getpid()}"


def _remove(scratch: Path) -> None:
    if scratch.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
    scratch.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)  # a linked file can be read-only
    except OSError:  # a platform that cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
