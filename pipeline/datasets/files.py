"""Picture files below a folder, by their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}


SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)


FITTING = "transparency on white, square from the centre, bilinear, antialiased (Pillow)"


def is_picture(path: Path) -> bool:
    """Say whether a file's name ends as one of the formats does."""
    return path.suffix.lower() in SUFFIXES


def pictures_below(folder: Path) -> Iterator[Path]:
    """Yield the picture files in and below a folder by name, but for hidden ones and links to folders."""
    return (path for path in files_below(folder) if is_picture(path) and path.is_file())


def files_below(folder: Path) -> Iterator[Path]:
    """Yield what lies in and below a folder by name, but for what is hidden; links to folders unfollowed."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files_below(path)
        else:
            yield path
