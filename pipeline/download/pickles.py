"""Read pickles of plain data without running code.

A pickle is a program. Callers check its digest first; even so, it can name only what NumPy needs to rebuild
an array.
"""

import io
import pickle
import pickletools
from typing import Any

import numpy as np

from pipeline.errors import DamagedFile


def _empty_array(kind: Any, shape: Any, typecode: Any) -> np.ndarray:
    """Stand in for NumPy's _reconstruct; the array's shape and bytes follow in the pickle."""
    return np.ndarray((0,), np.uint8)


GLOBALS: dict[str, Any] = {
    "numpy.ndarray": object,  # only passed on to _reconstruct
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _empty_array,  # its name in NumPy 1
    "numpy._core.multiarray._reconstruct": _empty_array,  # its name in NumPy 2
}


def load_plain(data: bytes) -> object:
    """Return the content of a pickle of Python's own types and NumPy arrays; Python 2's strings become bytes.

    Raises DamagedFile if the pickle names anything else, which is not imported, or cannot be read.
    """
    try:
        for operation, number, _ in pickletools.genops(data):
            # The unpickler allocates memory for as many objects as the largest number.
            if operation.name in ("PUT", "LONG_BINPUT") and (number or 0) > len(data):
                raise DamagedFile(f"pickle stores object number {number}, expected at most {len(data)}")
        return _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except DamagedFile:
        raise
    except Exception as error:  # damaged bytes make pickle raise nearly anything
        raise DamagedFile(f"not a pickle of plain data ({type(error).__name__}: {error})") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path not in GLOBALS:
            raise DamagedFile(f"pickle requests {path!r}; only {', '.join(GLOBALS)} are allowed")
        return GLOBALS[path]
