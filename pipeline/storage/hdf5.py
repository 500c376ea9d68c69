"""HDF5 as this project writes and reads it: same data, same bytes; no surprises from foreign files."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import DamagedFile

CHUNK_BYTES = 1 << 20
LARGEST_PACKING = 1032  # to one: the limit of deflate, see zlib.net/zlib_tech.html


@contextlib.contextmanager
def created(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file for writing; its metadata carry checksums and no times.

    The file is made in memory and written at the end: where HDF5 itself meets a full disk, it can end the
    process with a segmentation fault (1.14). Nothing is written when the block raises.
    """
    memory = io.BytesIO()
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)  # earlier ones lack checksums
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, memory)
    untimed = _untimed(h5py.h5p.FILE_CREATE)
    with h5py.File(h5py.h5f.create(b"memory", h5py.h5f.ACC_TRUNC, fcpl=untimed, fapl=access)) as file:
        yield file
    Path(path).write_bytes(memory.getbuffer())


def create_group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return a new group; h5py's own method notes the time in it, so that bytes would differ."""
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=_untimed(h5py.h5p.GROUP_CREATE)))


def write_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    """Write a numeric array in equal chunks of up to a megabyte with a fletcher32 checksum each, untimed."""
    row_bytes = max(1, array[:1].nbytes)
    chunks = max(1, -(-len(array) // max(1, CHUNK_BYTES // row_bytes)))
    rows = max(1, -(-len(array) // chunks))
    group.create_dataset(
        name, data=array, chunks=(rows, *array.shape[1:]), fletcher32=True, track_times=False
    )


def write_texts(group: h5py.Group, name: str, texts: list[str]) -> None:
    """Write texts as fixed-length UTF-8, which carries a checksum where variable length cannot."""
    encoded = [text.encode() for text in texts]
    kind = h5py.string_dtype("utf-8", max(1, max(map(len, encoded), default=1)))
    write_array(group, name, np.array(encoded, dtype=kind))


def read_texts(group: h5py.Group, name: str) -> list[str]:
    """Return the texts that write_texts wrote; raise DamagedFile where they are none."""
    try:
        return [text.decode() for text in read_array(group, name, kinds="S")]
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{group.file.filename}: expected {name} in UTF-8 ({error})") from error


def read_array(group: h5py.Group, name: str, *, kinds: str) -> np.ndarray:
    """Return what write_array wrote; raise DamagedFile for what is no dataset of one of NumPy's kinds."""
    return find_dataset(group, name, kinds=kinds)[:]


def find_dataset(group: h5py.Group, name: str, *, kinds: str) -> h5py.Dataset:
    """Return a dataset with rows, unread; raise DamagedFile where it is none or of none of NumPy's kinds."""
    item = group.get(name)
    if not isinstance(item, h5py.Dataset) or not item.shape or item.dtype.kind not in kinds:
        found = item.dtype if isinstance(item, h5py.Dataset) else "none"
        raise DamagedFile(f"{group.file.filename}: expected a dataset {name} of kind {kinds}, found {found}")
    return item


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; raise DamagedFile unless it is one and all in it is its own.

    External and soft links, external storage and virtual datasets are refused: through them a hostile
    file could show the contents of others. So are values of varying length, and datasets that claim more
    than the file can hold: reading them would take any amount of memory.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DamagedFile(f"{path}: expected an HDF5 file ({error})") from error
    with file:
        try:
            _refuse_foreign_parts(file, path)
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:  # h5py's, of hostile files
            raise DamagedFile(f"{path}: could not be read ({error})") from error
        try:
            yield file
        except (OSError, KeyError, RuntimeError) as error:
            raise DamagedFile(f"{path}: could not be read ({error})") from error


def _untimed(kind: h5py.h5p.PropClassID) -> h5py.h5p.PropOCID:
    properties = h5py.h5p.create(kind)
    properties.set_obj_track_times(False)
    return properties


def _refuse_foreign_parts(group: h5py.Group, path: Path) -> None:
    waiting, seen, size = [group], 0, Path(path).stat().st_size
    while waiting:
        here = waiting.pop()
        for name in here:
            seen += 1
            if seen > 10_000:
                raise DamagedFile(f"{path}: holds more than 10,000 entries")
            if not isinstance(here.get(name, getlink=True), h5py.HardLink):
                raise DamagedFile(f"{path}: {name} links elsewhere; only plain datasets are accepted")
            item = here[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif not isinstance(item, h5py.Dataset):
                raise DamagedFile(f"{path}: {name} is no dataset; only plain datasets are accepted")
            elif item.external or item.is_virtual:
                raise DamagedFile(f"{path}: {name} keeps its data in another file; refused")
            else:
                _refuse_empty_claims(item, size, path)


def _refuse_empty_claims(item: h5py.Dataset, size: int, path: Path) -> None:
    """Refuse a dataset that would take more memory than a file of size bytes can hold values for."""
    if item.shape is None or item.dtype.kind == "O":
        raise DamagedFile(f"{path}: {item.name} holds nothing or values of varying length; refused")
    packed = item.id.get_create_plist().get_nfilters() > int(item.fletcher32)
    claimed = item.dtype.itemsize * max(math.prod(item.shape), math.prod(item.chunks or (0,)))
    if claimed > size * (LARGEST_PACKING if packed else 1):
        raise DamagedFile(
            f"{path}: {item.name} claims {claimed} bytes, more than its file of {size} bytes can hold"
        )
