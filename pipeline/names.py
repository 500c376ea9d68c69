"""Functions by name, `module:function`: what plans a computation names it and does not import it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def resolve(name: str) -> Callable[..., Any]:
    """Return the function that `module:function` names; imports its module."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
