"""Read pickles of plain data without trusting them.

A pickle is a program. Its operations are compared with a list before anything runs: those that CIFAR-10's
pickles use, in the spellings of protocols 2 and 3. None fetches an object a second time, so time and memory
grow with the size of the pickle only. Then an unpickler runs it that knows stand-ins for three globals of
NumPy and nothing else.
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
MAX_OPERATIONS = 200_000  # a CIFAR-10 batch takes 30,098
MAX_TUPLES = 100  # a CIFAR-10 batch takes 6; Python hashes nested tuples without a limit of depth


def load_plain(data: bytes, limit: int) -> object:
    """Return what a pickle of plain data holds: dicts, lists, tuples, bytes, strings, integers, uint8 arrays.

    Strings of Python 2 become bytes; arrays are instances of a subclass of numpy.ndarray. limit is the
    longest pickle accepted, in bytes; what its arrays hold is part of it. Raises DamagedFile for everything
    else, and imports and calls nothing that the pickle names.
    """
    if len(data) > limit:
        raise DamagedFile(f"pickle of {len(data)} bytes: expected at most {limit}")
    try:
        _check_operations(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except DamagedFile:
        raise
    except Exception as error:  # hostile bytes make pickle raise nearly anything
        raise DamagedFile(f"not a pickle of plain data ({type(error).__name__}: {error})") from error


def _check_operations(data: bytes) -> None:
    tuples = 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(data), start=1):
        if operation.name not in ALLOWED_OPERATIONS:
            raise DamagedFile(f"pickle uses the operation {operation.name}, which plain data does not need")
        tuples += operation.name.startswith("TUPLE")
        if count > MAX_OPERATIONS or tuples > MAX_TUPLES:
            raise DamagedFile(f"pickle has more than {MAX_OPERATIONS} operations or {MAX_TUPLES} tuples")
        # The unpickler makes room for as many objects as the largest number.
        if operation.name == "LONG_BINPUT" and (argument or 0) > MAX_OPERATIONS:
            raise DamagedFile(f"pickle stores object number {argument}, expected at most {MAX_OPERATIONS}")


# The stand-ins have no __dict__ and no attribute that can be set, so a pickle cannot alter them.


class _Uint8:
    """Stands for numpy.dtype and for the one that it may make, uint8."""

    __slots__ = ()

    def __call__(self, name: bytes | str, align: Any, copy: Any) -> _Uint8:
        if name not in (b"u1", "u1"):
            raise DamagedFile(f"pickle holds an array of dtype {shortened(name)}, expected uint8")
        return self

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[2:5] != (None, None, None):  # sub-array, field names, fields
            raise DamagedFile("pickle holds a structured dtype, expected uint8")


class _ArrayMaker:
    """Stands for NumPy's _reconstruct, which starts an array that its state then fills."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: tuple[Any, ...], typecode: bytes | str) -> np.ndarray:
        if kind is not ARRAY_CLASS or shape != (0,) or typecode not in (b"b", "b"):
            found = shortened((kind, shape, typecode))
            raise DamagedFile(f"pickle starts an array from {found}, expected (numpy.ndarray, (0,), 'b')")
        return _CheckedArray(shape, "u1")


class _CheckedArray(np.ndarray):
    """An array that takes no other state than bytes that fill its shape."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Uint8) or fortran or type(raw) is not bytes:
            raise DamagedFile("pickle holds an array that is not made of uint8 in C order")
        wrong = f"pickle holds an array of shape {shortened(shape)}"
        if type(shape) is not tuple or not all(type(size) is int and size > 0 for size in shape):
            raise DamagedFile(f"{wrong}, expected positive integers")
        if (taken := math.prod(shape)) != len(raw):
            raise DamagedFile(f"{wrong}, which takes {taken} bytes, but holds {len(raw)} bytes for it")
        checked: Any = (1, shape, np.dtype("u1"), False, raw)  # NumPy's types ask for a bool of its own
        super().__setstate__(checked)


ARRAY_CLASS = object()  # stands for numpy.ndarray, which must not be called: it makes room for any shape
GLOBALS: dict[str, Any] = {
    "numpy.ndarray": ARRAY_CLASS,
    "numpy.dtype": _Uint8(),
    "numpy.core.multiarray._reconstruct": _ArrayMaker(),  # as NumPy 1 calls it
    "numpy._core.multiarray._reconstruct": _ArrayMaker(),  # as NumPy 2 does
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in GLOBALS:
            raise DamagedFile(f"pickle asks for {shortened(asked)}; only {', '.join(GLOBALS)} are allowed")
        return GLOBALS[asked]
