"""Read CIFAR from its archive as a stream; the digest of each member is checked before it is parsed."""

import contextlib
import gzip
import hashlib
import io
import itertools
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np

from pipeline.download.cifar import Archive, Member
from pipeline.download.pickles import load_plain
from pipeline.errors import DamagedFile

IMAGE_SIDE = 32  # pixels
PIXELS_PER_ROW = 3 * IMAGE_SIDE * IMAGE_SIDE  # planes in the order red, green, blue, each row by row

MAX_UNPACKED_BYTES = 256 << 20  # CIFAR-10 takes 186,214,026, CIFAR-100 186,301,098
MAX_MEMBERS = 256  # regular repacks have 3 to 9
MAX_EXTENSION_BYTES = 64 << 10  # of an extended header, which tarfile reads into memory and parses
PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
EXTENSION_TYPES = (*PAX_TYPES, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
PLAIN_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)


@dataclass(frozen=True)
class Cifar:
    """The full data set: the training images in order, then the test images.

    images is (60000, 32, 32, 3) uint8, RGB; labels (60000,) int64, indices into class_names; names are the
    original file names of the images.
    """

    images: np.ndarray
    labels: np.ndarray
    names: list[str]
    class_names: tuple[str, ...]
    train_count: int = 50_000


def check_archive(row: Archive, path: Path) -> None:
    """Check that a tar or tar.gz holds the members of its row, unaltered; raise DamagedFile if not.

    Takes about as long as unpacking and the memory of one member; other members are skipped.
    """
    with _named_in_errors(path):
        for _ in _verified_members(row, path):
            pass


def pack_folder(row: Archive, folder: Path, target: Path) -> None:
    """Write an archive of the members in an extracted folder; raise DamagedFile if one cannot be read."""
    with tarfile.open(target, "w", dereference=True) as archive:
        for member in row.members:
            with _named_in_errors(folder / member.name):
                archive.add(folder / member.name, f"{row.folder}/{member.name}", recursive=False)


def read_archive(row: Archive, path: Path) -> Cifar:
    """Return a data set from its archive; the digest of each member is checked before it is parsed.

    Raises DamagedFile when the archive or the content of a member is not valid.
    """
    *batches, meta = row.members
    ends = dict(zip(batches, itertools.accumulate(batch.images for batch in batches), strict=True))
    count, train_count = ends[batches[-1]], ends[batches[-2]]
    images = np.empty((count, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
    labels = np.empty(count, np.int64)
    names = np.empty(count, object)
    class_names: tuple[str, ...] = ()
    with _named_in_errors(path):
        for member, data in _verified_members(row, path):
            with _named_in_errors(member.name):
                content = load_plain(data)
                if not isinstance(content, dict):
                    raise DamagedFile(f"expected a dictionary, found {type(content).__name__}")
                if member == meta:
                    encoded = _list_of(content, row.class_names, bytes)
                    class_names = tuple(name.decode("utf-8", "replace") for name in encoded)
                    continue
                rows = slice(ends[member] - member.images, ends[member])
                images[rows], labels[rows], names[rows] = _batch(row, member.images, content)
        if labels.max() >= len(class_names):
            raise DamagedFile(f"expected a name for label {labels.max()}, found {len(class_names)} names")
    return Cifar(images, labels, names.tolist(), class_names, train_count)


@contextlib.contextmanager
def _named_in_errors(name: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DamagedFile(f"{name}: could not be read ({error.strerror})") from error
    except DamagedFile as error:
        raise DamagedFile(f"{name}: {error}") from error


class _Header(tarfile.TarInfo):
    """A header that is refused before tarfile reads what follows it, if its type or size is suspicious."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENSION_TYPES and header.size > MAX_EXTENSION_BYTES:
            raise DamagedFile(f"an extended header takes {header.size} bytes")
        if header.type not in EXTENSION_TYPES + PLAIN_TYPES:
            kind = f"a link, a device or similar (tar type {header.type!r})"
            raise DamagedFile(f"{header.name!r} is {kind}, expected only regular files and folders")
        return header


def _verified_members(row: Archive, path: Path) -> Iterator[tuple[Member, bytes]]:
    """Yield the members with their verified bytes, in the order of the archive."""
    missing = {f"{row.folder}/{member.name}": member for member in row.members}
    expected = dict(missing)
    with Path(path).open("rb") as file:
        start = file.peek(40)[:40]
        stream: io.BufferedIOBase = gzip.GzipFile(fileobj=file) if start[:2] == b"\x1f\x8b" else file
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:
                for count, header in enumerate(archive, start=1):
                    _check_limits(header, count, archive.offset)
                    if member := expected.get(header.name):
                        if missing.pop(header.name, None) is None:
                            raise DamagedFile(f"{member.name} is in the archive twice")
                        yield member, _verified(archive, header, member, row.algorithm)
        except DamagedFile:
            raise
        except Exception as error:  # damaged bytes make tarfile raise nearly anything
            what = f"{type(error).__name__}: {error}"
            raise DamagedFile(f"not a valid tar archive ({what}); it starts with {start!r}") from error
    if missing:
        names = ", ".join(member.name for member in missing.values())
        raise DamagedFile(f"missing {names}; expected {len(expected)} members in {row.folder}/")


def _check_limits(header: tarfile.TarInfo, count: int, end: int) -> None:
    """Check a member after its extended headers and before its data, which ends at byte end, is read."""
    name = PurePosixPath(header.name)
    if name.is_absolute() or ".." in name.parts:
        raise DamagedFile(f"{header.name!r} points outside the archive")
    if end > MAX_UNPACKED_BYTES or count > MAX_MEMBERS:
        limits = f"{MAX_UNPACKED_BYTES} bytes and {MAX_MEMBERS} members"
        raise DamagedFile(f"{header.name!r} exceeds the limits of {limits}")


def _verified(archive: tarfile.TarFile, header: tarfile.TarInfo, member: Member, algorithm: str) -> bytes:
    file = archive.extractfile(header)
    if file is None:
        raise DamagedFile(f"{member.name} is not a regular file")
    if header.size != member.bytes:
        sizes = f"expected {member.bytes} bytes, found {header.size}"
        raise DamagedFile(f"size of {member.name} differs: {sizes}")
    data = file.read()
    digest = hashlib.new(algorithm, data).hexdigest()
    if digest != member.digest:
        raise DamagedFile(f"{algorithm} of {member.name} differs: expected {member.digest}, found {digest}")
    return data


def _batch(row: Archive, count: int, content: dict[bytes, Any]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the images (N, 32, 32, 3), N = count, labels (N,) and file names of one member's dictionary."""
    pixels = content.get(b"data")
    found = " ".join(str(getattr(pixels, name, "none")) for name in ("shape", "dtype"))
    if found != (expected := f"{(count, PIXELS_PER_ROW)} uint8"):
        raise DamagedFile(f"expected data {expected}, found {found}")
    labels = _list_of(content, row.labels, int, count)
    if not all(0 <= label < row.classes for label in labels):
        raise DamagedFile(f"expected labels 0 to {row.classes - 1}, found {min(labels)} to {max(labels)}")
    names = [name.decode("utf-8", "replace") for name in _list_of(content, b"filenames", bytes, count)]
    planes = np.asarray(pixels).reshape(-1, 3, IMAGE_SIDE, IMAGE_SIDE)
    return planes.transpose(0, 2, 3, 1), np.array(labels, np.int64), names


def _list_of(content: dict[bytes, Any], key: bytes, kind: type, count: int | None = None) -> list[Any]:
    values = content.get(key)
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise DamagedFile(f"expected {key.decode()} to be a list of {kind.__name__}")
    if count not in (None, len(values)):
        raise DamagedFile(f"expected {count} {key.decode()}, found {len(values)}")
    return values
