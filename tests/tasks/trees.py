"""Helpers that inspect the folders that commands write."""

from __future__ import annotations

from pathlib import Path


def tree(folder: Path) -> dict[str, tuple]:
    """Return size, time and whether it is a link of each path in a folder; {} if it does not exist."""
    states = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        states[str(path.relative_to(folder))] = state.st_size, state.st_mtime_ns, path.is_symlink()
    return states


def only(folder: Path, pattern: str) -> Path:
    """Return the only path in a folder that matches a pattern."""
    (path,) = folder.glob(pattern)
    return path
