"""Read pickles of plain data without running code.

A pickle is a program. It is read only after its digest was checked, and even then it can name nothing but the
functions by which NumPy creates an array.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from pipeline.errors import DamagedFile

MULTIARRAY = np.zeros(0, np.uint8).__reduce__()[0]  # NumPy's function that creates an empty array
GLOBALS: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": MULTIARRAY,  # its name in NumPy 1
    "numpy._core.multiarray._reconstruct": MULTIARRAY,  # its name in NumPy 2
}


def load_plain(data: bytes) -> object:
    """Return the content of a pickle of Python's own types and NumPy arrays; Python 2's strings become bytes.

    Raises DamagedFile if the pickle names anything else, which is not imported, or cannot be read.
    """
    try:
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
