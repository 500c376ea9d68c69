"""Write features with names as a Parquet, HDF5 or NumPy file, block by block."""

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.errors import BadInput
from pipeline.storage.publishing import check_publishable, publish_text, published

NAMES = ".names.json"  # the columns beside a .npy file
Columns = Mapping[str, Sequence[Any]]  # such as name: N texts


def _write_npy(path: Path, columns: Columns, rows: int, width: int, blocks: Iterable[np.ndarray]) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for start, stop, block in _counted(blocks):
        array[start:stop] = block
    array.flush()


def _write_hdf5(path: Path, columns: Columns, rows: int, width: int, blocks: Iterable[np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            is_text = any(isinstance(value, str) for value in values)
            file.create_dataset(name, data=list(values), dtype=h5py.string_dtype() if is_text else None)
        features = file.create_dataset("features", (rows, width), np.float32)
        for start, stop, block in _counted(blocks):
            features[start:stop] = block


def _write_parquet(path: Path, columns: Columns, rows: int, width: int, blocks: Iterable[np.ndarray]) -> None:
    import pyarrow
    import pyarrow.parquet

    vector = pyarrow.list_(pyarrow.float32(), width)
    types = {name: pyarrow.array(values[:1]).type for name, values in columns.items()}
    schema = pyarrow.schema([*types.items(), ("features", vector)])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start, stop, block in _counted(blocks):
            arrays = [pyarrow.array(values[start:stop], types[name]) for name, values in columns.items()]
            arrays.append(pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.ravel()), type=vector))
            writer.write_table(pyarrow.table(arrays, schema=schema))


FORMATS: dict[str, Any] = {".npy": _write_npy, ".h5": _write_hdf5, ".parquet": _write_parquet}


def check_table(path: Path) -> None:
    """Raise BadInput if the suffix of an output file is unknown, its library missing, or its place bad."""
    if path.suffix not in FORMATS:
        raise BadInput(f"--out {path}: expected a file that ends in {', '.join(FORMATS)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise BadInput(
            f"--out {path}: pyarrow is not installed; get it with `pip install 'headstart[parquet]'`"
        )
    for suffix in (path.suffix, *([NAMES] if path.suffix == ".npy" else [])):
        check_publishable(path.with_suffix(suffix))


def publish_table(path: Path, columns: Columns, width: int, blocks: Iterable[np.ndarray]) -> None:
    """Publish columns of N values and features (N, width) float32, which come in blocks of rows, at path.

    The suffix decides the format. Beside a .npy file, the columns are written as <stem>.names.json.
    """
    rows = len(next(iter(columns.values())))
    with published(path) as scratch:
        FORMATS[path.suffix](scratch, columns, rows, width, blocks)
    if path.suffix == ".npy":
        publish_text(path.with_suffix(NAMES), json.dumps(dict(columns)) + "\n")


def _counted(blocks: Iterable[np.ndarray]) -> Iterator[tuple[int, int, np.ndarray]]:
    start = 0
    for block in blocks:
        yield start, start + len(block), block
        start += len(block)
