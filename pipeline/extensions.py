"""Names that stand for code: functions as `module:function`, and modules that add rows to the tables.

HEADSTART_EXTENSIONS names the modules, separated by commas. They are imported where the graph is planned and
in every child process, so they must be light: load frameworks inside functions.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

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


def resolve(name: str) -> Callable[..., Any]:
    """Return the function that `module:function` names; imports its module."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
