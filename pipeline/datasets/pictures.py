"""Picture files of any size and mode, read as the square RGB arrays that networks take."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DamagedFile

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
LARGEST_PIXELS = 100_000_000  # of a picture; a small file can claim to be far larger
FITTING = "transparency on white, square from the centre, bilinear, antialiased (Pillow)"


class _Clamped(io.BufferedReader):
    """A file that makes room for no more bytes than it has; Pillow asks for as many as a chunk claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


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


def read_picture(path: Path, size: int) -> np.ndarray:
    """Return a picture file as (size, size, 3) uint8 RGB: turned as its EXIF says, its middle square, scaled.

    A picture of that size already is returned pixel by pixel. Of an animation the first picture is read.
    Raises DamagedFile for what is no picture, is broken or is larger than LARGEST_PIXELS.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with _Clamped(path) as stream, Image.open(stream, formats=list(FORMATS)) as file:
            width, height = file.size
            if width * height > LARGEST_PIXELS:
                raise DamagedFile(
                    f"{path}: expected {LARGEST_PIXELS:,} pixels at most, found {width:,} x {height:,}"
                )
            file.draft("RGB", (4 * size, 4 * size))  # JPEG alone: decoded no larger than is needed
            picture = _rgb(ImageOps.exif_transpose(file))
    except DamagedFile:
        raise
    except Exception as problem:  # Pillow raises errors of many kinds for damaged files
        raise DamagedFile(f"{path}: no readable picture ({str(problem) or type(problem).__name__})") from None
    return np.asarray(_fitted(picture, size))


def _rgb(picture: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB: 16 bits scaled to 8, transparent parts white."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        if picture.mode != "F":
            values = values / 257  # 65,535 becomes 255
        picture = Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _fitted(picture: Image.Image, size: int) -> Image.Image:
    from PIL import Image

    if picture.size == (size, size):
        return picture
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
