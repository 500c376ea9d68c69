"""Read picture files of any size and mode as square RGB arrays."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.datasets.folders import FORMATS
from pipeline.errors import DamagedFile

LARGEST_PIXELS = 100_000_000  # of a picture; a small file can declare a huge size


class _Clamped(io.BufferedReader):
    """A file whose reads allocate no more than its size; Pillow asks for as much as a chunk declares."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        remaining = max(0, self._size - self.tell())
        return super().read(remaining if size is None or size < 0 else min(size, remaining))


def read_picture(path: Path, size: int) -> np.ndarray:
    """Return a picture file as (size, size, 3) uint8 RGB: EXIF rotation, center crop, resize.

    A picture that already has this size keeps its pixels. An animation gives its first frame. Raises
    DamagedFile if the file is not a picture, is damaged or has more than LARGEST_PIXELS.
    """
    try:
        with _Clamped(path) as stream, Image.open(stream, formats=list(FORMATS)) as file:
            width, height = file.size
            if width * height > LARGEST_PIXELS:
                raise DamagedFile(
                    f"{path}: expected {LARGEST_PIXELS:,} pixels at most, found {width:,} x {height:,}"
                )
            file.draft("RGB", (4 * size, 4 * size))  # JPEG only: decodes at reduced size
            picture = _rgb(ImageOps.exif_transpose(file))
    except DamagedFile:
        raise
    except Exception as problem:  # Pillow raises many exception types for damaged files
        reason = str(problem) or type(problem).__name__
        raise DamagedFile(f"{path}: not a readable picture ({reason})") from None
    return np.asarray(_cropped_and_resized(picture, size))


def _rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB: 16 bits are scaled to 8, transparency becomes white."""
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


def _cropped_and_resized(picture: Image.Image, size: int) -> Image.Image:
    if picture.size == (size, size):
        return picture
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
