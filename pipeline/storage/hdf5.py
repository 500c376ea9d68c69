"""Write HDF5 reproducibly, byte for byte, and read HDF5 files of any origin safely."""

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import DamagedFile

CHUNK_BYTES = 1 << 20
MAX_COMPRESSION = 1032  # to one: the limit of deflate, see zlib.net/zlib_tech.html


@contextlib.contextmanager
def created(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file for writing; its metadata has checksums and no timestamps.

    The file is created in memory and written at the end, because HDF5 (1.14) can crash with a segmentation
    fault on a full disk. Nothing is written if the block raises.
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
    """Return a new group without a timestamp; h5py's own method stores one, so that bytes would differ."""
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=_untimed(h5py.h5p.GROUP_CREATE)))


def write_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    """Write a numeric array in equal chunks of up to 1 MiB, each with a fletcher32 checksum; no timestamp."""
    row_bytes = max(1, array[:1].nbytes)
    chunks = max(1, -(-len(array) // max(1, CHUNK_BYTES // row_bytes)))
    shape = (max(1, -(-len(array) // chunks)), *array.shape[1:])
    group.create_dataset(name, data=array, chunks=shape, fletcher32=True, track_times=False)


def write_mappable(group: h5py.Group, name: str, array: np.ndarray) -> None:
    """Write a numeric array in one piece that `map_array` can map; only its file's sha256 protects it."""
    group.create_dataset(name, data=array, track_times=False)


def map_array(path: Path, name: str) -> np.ndarray:
    """Return an array that write_mappable wrote as a read-only memory map; raise DamagedFile otherwise."""
    with opened(path) as file:
        item = find_dataset(file, name, kinds="f")
        offset, dtype, shape = item.id.get_offset(), item.dtype, item.shape
    if offset is None:
        raise DamagedFile(f"{path}: expected {name} in one piece; delete its folder and run again")
    try:
        return np.memmap(path, dtype, "r", offset, shape)
    except (ValueError, OSError) as error:
        raise DamagedFile(f"{path}: {name} could not be mapped ({error})") from error


def write_texts(group: h5py.Group, name: str, texts: list[str]) -> None:
    """Write texts as fixed-length UTF-8; variable-length strings cannot have checksums."""
    encoded = [text.encode() for text in texts]
    dtype = h5py.string_dtype("utf-8", max(1, max(map(len, encoded), default=1)))
    write_array(group, name, np.array(encoded, dtype=dtype))


def read_texts(group: h5py.Group, name: str) -> list[str]:
    """Return the texts that write_texts wrote; raise DamagedFile if they are not valid texts."""
    try:
        return [text.decode() for text in read_array(group, name, kinds="S")]
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{group.file.filename}: expected {name} in UTF-8 ({error})") from error


def read_array(group: h5py.Group, name: str, *, kinds: str) -> np.ndarray:
    """Return the array that write_array wrote; raise DamagedFile unless its dtype is of one of the kinds."""
    return find_dataset(group, name, kinds=kinds)[:]


def find_dataset(group: h5py.Group, name: str, *, kinds: str) -> h5py.Dataset:
    """Return a dataset with rows, not yet read; raise DamagedFile unless its dtype is of one of the kinds."""
    item = group.get(name)
    if not isinstance(item, h5py.Dataset) or not item.shape or item.dtype.kind not in kinds:
        actual = item.dtype if isinstance(item, h5py.Dataset) else "none"
        raise DamagedFile(f"{group.file.filename}: expected a dataset {name} of kind {kinds}, found {actual}")
    return item


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; raise DamagedFile unless it is valid and self-contained.

    External and soft links, external storage and virtual datasets are refused: a malicious file could use
    them to expose other files. Variable-length values and datasets that declare more data than the file can
    hold are refused, too: reading them could take any amount of memory.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DamagedFile(f"{path}: expected an HDF5 file ({error})") from error
    with file:
        try:
            _check_self_contained(file, path)
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:  # from h5py
            raise DamagedFile(f"{path}: could not be read ({error})") from error
        try:
            yield file
        except (OSError, KeyError, RuntimeError) as error:
            raise DamagedFile(f"{path}: could not be read ({error})") from error


def _untimed(kind: h5py.h5p.PropClassID) -> h5py.h5p.PropOCID:
    properties = h5py.h5p.create(kind)
    properties.set_obj_track_times(False)
    return properties


def _check_self_contained(root: h5py.Group, path: Path) -> None:
    groups, count, size = [root], 0, Path(path).stat().st_size
    while groups:
        group = groups.pop()
        for name in group:
            count += 1
            if count > 10_000:
                raise DamagedFile(f"{path}: has more than 10,000 entries")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise DamagedFile(f"{path}: {name} is a link; only plain datasets are accepted")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif not isinstance(item, h5py.Dataset):
                raise DamagedFile(f"{path}: {name} is not a dataset; only plain datasets are accepted")
            elif item.external or item.is_virtual:
                raise DamagedFile(f"{path}: {name} stores its data in another file; this is not accepted")
            else:
                _check_size(item, size, path)


def _check_size(item: h5py.Dataset, size: int, path: Path) -> None:
    """Raise DamagedFile if a dataset would take more memory than a file of size bytes can hold values for."""
    if item.shape is None or item.dtype.kind == "O":
        raise DamagedFile(f"{path}: {item.name} is empty or has variable-length values; this is not accepted")
    compressed = item.id.get_create_plist().get_nfilters() > int(item.fletcher32)
    declared = item.dtype.itemsize * max(math.prod(item.shape), math.prod(item.chunks or (0,)))
    if declared > size * (MAX_COMPRESSION if compressed else 1):
        raise DamagedFile(
            f"{path}: {item.name} declares {declared} bytes, more than its file of {size} bytes can hold"
        )
