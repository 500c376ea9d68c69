"""Picture files of any size and mode, read as the square RGB arrays that networks take."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.datasets.folders import FORMATS
from pipeline.errors import DamagedFile

LARGEST_PIXELS = 100_000_000  # of a picture; a small file can claim to be far larger


class _Clamped(io.BufferedReader):
    """A file that makes room for no more bytes than it has; Pillow asks for as many as a chunk claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def read_picture(path: Path, size: int) -> np.ndarray:
    """Return a picture file as (size, size, 3) uint8 RGB: turned as its EXIF says, its middle square, scaled.

    A picture of that size already is returned pixel by pixel. Of an animation the first picture is read.
    Raises DamagedFile for what is no picture, is broken or is larger than LARGEST_PIXELS.
    """
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
    if picture.size == (size, size):
        return picture
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
