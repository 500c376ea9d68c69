"""Images in a NumPy file (.npz): arrays images and labels, and, if wanted, names, split, group and weight.

Nothing is unpickled, and images are read one after another, so that memory does not depend on their number.
"""

import contextlib
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile

from pipeline.errors import BadInput, HeadstartError

COLUMNS = {"names": "path", "labels": "label", "split": "split", "group": "group", "weight": "weight"}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return what label_table.read_table does: texts by column; path is the name, images[0] by default."""
    with _opened(path) as (file, _, shape):
        rows = [{"path": f"images[{number}]"} for number in range(shape[0])]
        for name in COLUMNS.keys() & set(file.files):
            values, kinds = file[name], "iuf" if name == "weight" else "iubU"
            if values.shape != shape[:1] or values.dtype.kind not in kinds:
                what = "numbers" if name == "weight" else "whole numbers or texts"
                expected = f"{name} as {what} ({shape[0]},), one for each image"
                raise BadInput(f"{path}: expected {expected}, found {values.dtype} {values.shape}")
            for row, value in zip(rows, values.tolist(), strict=True):
                row[COLUMNS[name]] = str(value)
    return rows


def read_images(path: Path, rows: Collection[int]) -> Iterator[np.ndarray]:
    """Yield the images (H, W, 3) or (H, W) uint8 at rows, counted from 1, in the order of the file."""
    with _opened(path) as (_, stream, shape):
        for row in range(1, shape[0] + 1):
            image = np.frombuffer(stream.read(math.prod(shape[1:])), np.uint8).reshape(shape[1:])
            if row in rows:
                yield image


def smaller_side(path: Path) -> int:
    """Return the smaller of the height and width of the images."""
    with _opened(path) as (_, _, shape):
        return min(shape[1:3])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[NpzFile, IO[bytes], tuple[int, ...]]]:
    """Open a file; yield it, a stream of its images' pixels, and their shape. Raises BadInput."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := {"images", "labels"} - set(file.files):
                found = f"found no {', '.join(sorted(missing))}"
                raise BadInput(f"{path}: expected arrays images and labels, {found}")
            with file.zip.open("images.npy") as stream:
                npy.read_magic(stream)  # 1.0, which np.savez writes for arrays of a plain type
                shape, is_fortran, dtype = npy.read_array_header_1_0(stream)
                is_valid = len(shape) > 2 and shape[3:] in ((), (3,)) and min(shape) > 0
                if dtype != np.uint8 or is_fortran or not is_valid:
                    expected = "images as uint8 (N, height, width, 3) or (N, height, width) in C order"
                    found = f"{dtype} {shape}{' in Fortran order' if is_fortran else ''}"
                    raise BadInput(f"{path}: expected {expected}, found {found}")
                yield file, stream, shape
    except HeadstartError:
        raise
    except Exception as error:  # NumPy and zipfile raise many exception types
        raise BadInput(f"{path}: expected a NumPy file (.npz) without pickled objects ({error})") from None
