"""The images of a prepared data set: one .npy file that is written in blocks and mapped for reading."""

import contextlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from pipeline.errors import DamagedFile

BLOCK_BYTES = 64 << 20  # copied or decoded at a time


class ImageWriter(contextlib.AbstractContextManager["ImageWriter"]):
    """Writes images (n, size, size, 3) uint8 one after another, so that memory does not depend on n."""

    def __init__(self, path: Path, size: int):
        self.size, self.count = size, 0
        self._path, self._file = path, path.open("wb")
        self._write_header()

    @property
    def block(self) -> int:
        """The number of images in a block of about BLOCK_BYTES, at least 16."""
        return max(16, BLOCK_BYTES // (3 * self.size**2))

    def add(self, images: np.ndarray) -> None:
        """Append images (n, size, size, 3) uint8."""
        shape = (len(images), self.size, self.size, 3)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"expected uint8 images {shape}, received {images.dtype} {images.shape}")
        self._file.write(np.ascontiguousarray(images).data)  # tofile would hide why it failed
        self.count += len(images)

    def keep(self, rows: np.ndarray) -> None:
        """Keep only the images at rows (n,), ascending, and move them to the front of the file."""
        self._write_header()
        mapped = np.lib.format.open_memmap(self._path, mode="r+")
        for start in range(0, len(rows), self.block):
            kept = rows[start : start + self.block]
            mapped[start : start + len(kept)] = mapped[kept]
        mapped.flush()
        self.count = len(rows)
        self._write_header()
        self._file.truncate(self._file.tell() + self.count * 3 * self.size**2)
        self._file.seek(0, 2)

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._write_header()

    def _write_header(self) -> None:
        """Write the header at the start; NumPy pads it, so its length does not depend on the count."""
        shape = (self.count, self.size, self.size, 3)
        self._file.seek(0)
        npy.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._file.flush()


def map_images(path: Path) -> np.memmap:
    """Return the images (N, S, S, 3) uint8 in a file as a read-only memory map; raise DamagedFile."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python, which raises many exception types
        raise DamagedFile(f"{path}: expected images in NumPy's format ({error})") from error
    shape: tuple[int, ...] = getattr(images, "shape", ())
    is_array = isinstance(images, np.memmap) and images.dtype == np.uint8 and not np.isfortran(images)
    if not is_array or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        found = f"{type(images).__name__} {shape}"
        raise DamagedFile(f"{path}: expected images (N, S, S, 3) uint8, found {found}")
    return images
