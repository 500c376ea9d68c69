"""Rows of one's own without changing the project: modules that add to its tables when they are imported.

The environment variable HEADSTART_EXTENSIONS names them, separated by commas. They are imported where the
graph is planned and in every child process, so they must be light: load frameworks inside functions.
"""

from __future__ import annotations

import importlib
import os

from pipeline.errors import BadInput

VARIABLE = "HEADSTART_EXTENSIONS"


def load_extensions() -> None:
    """Import the modules that the environment names; raise BadInput for one that is not found."""
    for name in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise BadInput(
                f"{VARIABLE}: no module {error.name!r}; expected importable module names, "
                "separated by commas (is its folder on PYTHONPATH?)"
            ) from error
