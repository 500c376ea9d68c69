"""Looking at folders that commands worked on."""

from __future__ import annotations

from pathlib import Path


def tree(folder: Path) -> dict[str, tuple]:
    """Return size, time and target of all below a folder by path; {} where there is none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        found[str(path.relative_to(folder))] = state.st_size, state.st_mtime_ns, path.is_symlink()
    return found


def only(folder: Path, pattern: str) -> Path:
    """Return the one path below a folder that a pattern fits."""
    (found,) = folder.glob(pattern)
    return found
