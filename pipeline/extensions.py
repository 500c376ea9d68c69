"""Code that is loaded by name: functions as `module:function`, and modules that add rows to the tables.

HEADSTART_EXTENSIONS lists the modules, separated by commas. They are imported during planning and in every
child process, so they must be light: import frameworks inside functions.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

from pipeline.errors import BadInput

EXTENSIONS_VARIABLE = "HEADSTART_EXTENSIONS"


def load_extensions() -> None:
    """Import the modules listed in HEADSTART_EXTENSIONS; raise BadInput if one does not exist."""
    for name in filter(None, (part.strip() for part in os.environ.get(EXTENSIONS_VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise BadInput(
                f"{EXTENSIONS_VARIABLE}: no module {error.name!r}; expected importable module names, "
                "separated by commas (is its folder on PYTHONPATH?)"
            ) from error


def resolve(name: str) -> Callable[..., Any]:
    """Import the module of `module:function` and return the function."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
