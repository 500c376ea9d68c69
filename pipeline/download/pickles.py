"""Read pickles of plain data without trusting them.

A pickle is a program. Before anything runs, its operations are checked against an allowlist: those that
CIFAR's pickles use. None of them reuses an object, so time and memory are bounded by the size of the
pickle. The unpickler resolves only three globals of NumPy, each replaced by a safe stand-in.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from reprlib import repr as shortened
from typing import Any

import numpy as np

from pipeline.errors import DamagedFile

# fmt: off
ALLOWED_OPERATIONS = {
    "PROTO", "STOP", "MARK", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1",
    "BININT2", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINUNICODE", "BINPUT",
    "LONG_BINPUT", "GLOBAL", "REDUCE", "BUILD",
}
# fmt: on
MAX_OPERATIONS = 201_000  # a CIFAR-10 batch has 30,098, CIFAR-100's member train 200,362 (from its size)
MAX_TUPLES = 100  # a CIFAR-10 batch has 6; Python hashes nested tuples without a depth limit


def load_plain(data: bytes, limit: int) -> object:
    """Return the content of a pickle of dicts, lists, tuples, bytes, strings, integers and uint8 arrays.

    Strings of Python 2 become bytes; arrays are instances of a subclass of numpy.ndarray. limit is the
    maximum size of the pickle in bytes, including its arrays. Raises DamagedFile for everything else, and
    never imports or calls anything that the pickle names.
    """
    if len(data) > limit:
        raise DamagedFile(f"pickle of {len(data)} bytes: expected at most {limit}")
    try:
        _check_operations(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except DamagedFile:
        raise
    except Exception as error:  # malicious bytes make pickle raise nearly anything
        raise DamagedFile(f"not a pickle of plain data ({type(error).__name__}: {error})") from error


def _check_operations(data: bytes) -> None:
    tuples = 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(data), start=1):
        if operation.name not in ALLOWED_OPERATIONS:
            raise DamagedFile(f"pickle uses the operation {operation.name}, expected plain data only")
        tuples += operation.name.startswith("TUPLE")
        if count > MAX_OPERATIONS or tuples > MAX_TUPLES:
            raise DamagedFile(f"pickle has more than {MAX_OPERATIONS} operations or {MAX_TUPLES} tuples")
        # The unpickler allocates memory for as many objects as the largest number.
        if operation.name == "LONG_BINPUT" and (argument or 0) > MAX_OPERATIONS:
            raise DamagedFile(f"pickle stores object number {argument}, expected at most {MAX_OPERATIONS}")


# The stand-ins have no __dict__ and no settable attributes, so a pickle cannot alter them.


class _Uint8:
    """Replaces numpy.dtype and the only dtype it may create, uint8."""

    __slots__ = ()

    def __call__(self, name: bytes | str, align: Any, copy: Any) -> _Uint8:
        if name not in (b"u1", "u1"):
            raise DamagedFile(f"pickle holds an array of dtype {shortened(name)}, expected uint8")
        return self

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[2:5] != (None, None, None):  # sub-array, field names, fields
            raise DamagedFile("pickle holds a structured dtype, expected uint8")


class _ArrayMaker:
    """Replaces NumPy's _reconstruct, which creates an empty array to be filled from its state."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: tuple[Any, ...], typecode: bytes | str) -> np.ndarray:
        if kind is not ARRAY_CLASS or shape != (0,) or typecode not in (b"b", "b"):
            call = shortened((kind, shape, typecode))
            raise DamagedFile(f"pickle creates an array from {call}, expected (numpy.ndarray, (0,), 'b')")
        return _CheckedArray(shape, "u1")


class _CheckedArray(np.ndarray):
    """An array whose only valid state is the bytes that fill its shape."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Uint8) or fortran or type(raw) is not bytes:
            raise DamagedFile("pickle holds an array that is not uint8 in C order")
        prefix = f"pickle holds an array of shape {shortened(shape)}"
        if type(shape) is not tuple or not all(type(length) is int and length > 0 for length in shape):
            raise DamagedFile(f"{prefix}, expected positive integers")
        if (size := math.prod(shape)) != len(raw):
            raise DamagedFile(f"{prefix}, expected {size} bytes, found {len(raw)}")
        checked: Any = (1, shape, np.dtype("u1"), False, raw)  # NumPy's type hints require a NumPy bool
        super().__setstate__(checked)


ARRAY_CLASS = object()  # replaces numpy.ndarray, which must not be called: it allocates any shape
GLOBALS: dict[str, Any] = {
    "numpy.ndarray": ARRAY_CLASS,
    "numpy.dtype": _Uint8(),
    "numpy.core.multiarray._reconstruct": _ArrayMaker(),  # its name in NumPy 1
    "numpy._core.multiarray._reconstruct": _ArrayMaker(),  # its name in NumPy 2
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path not in GLOBALS:
            raise DamagedFile(f"pickle requests {shortened(path)}; only {', '.join(GLOBALS)} are allowed")
        return GLOBALS[path]
