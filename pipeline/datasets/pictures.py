"""Read picture files of any size and mode as upright RGB, and fit them to a square."""

import contextlib
import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from pipeline.datasets.folders import FORMATS
from pipeline.errors import DamagedFile

LARGEST_PIXELS = 100_000_000  # of a picture; a small file can declare a huge size
PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20  # bytes; Pillow refuses pictures with more text or color profile
ORIENTATIONS = dict(zip(range(2, 9), map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), strict=True))  # of EXIF


class _Clamped(io.BufferedReader):
    """A file whose reads allocate no more than its size; Pillow asks for as much as a chunk declares."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        remaining = max(0, self._size - self.tell())
        return super().read(remaining if size is None or size < 0 else min(size, remaining))


def read_picture(path: Path, size: int) -> np.ndarray:
    """Return a picture file as (size, size, 3) uint8 RGB; raise DamagedFile (see decode_picture)."""
    return fit_picture(decode_picture(path), size)


def decode_picture(path: Path) -> Image.Image:
    """Return a picture file upright in RGB at its own size; an animation gives its first frame.

    Raises DamagedFile if the file is not a picture, is damaged or has more than LARGEST_PIXELS.
    """
    try:
        with _Clamped(path) as stream, Image.open(stream, formats=FORMATS) as file:
            width, height = file.size
            if width * height > LARGEST_PIXELS:
                raise DamagedFile(
                    f"{path}: expected {LARGEST_PIXELS:,} pixels at most, found {width:,} x {height:,}"
                )
            file.load()  # before the metadata, which may be damaged
            return _rgb(_upright(file))
    except DamagedFile:
        raise
    except UnidentifiedImageError:
        raise DamagedFile(f"{path}: not a readable picture (expected one of {', '.join(FORMATS)})") from None
    except Exception as problem:  # Pillow raises many exception types for damaged files
        reason = str(problem) or type(problem).__name__
        raise DamagedFile(f"{path}: not a readable picture ({reason})") from None


def fit_picture(picture: Image.Image, size: int) -> np.ndarray:
    """Return the square at a picture's center as (size, size, 3) uint8: bilinear, antialiased.

    A picture that already has this size keeps its pixels. use.network.fit_images does the same in a graph.
    """
    if picture.size != (size, size):
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = picture.crop((left, top, left + side, top + side))  # resize(box=…) would read beyond it
        picture = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def digest_of_picture(picture: Image.Image) -> bytes:
    """Return the sha256 of an RGB picture's size and pixels, which no format or later resizing changes."""
    digest = hashlib.sha256(b"%d x %d" % picture.size)
    digest.update(picture.tobytes())
    return digest.digest()


def _upright(picture: Image.Image) -> Image.Image:
    """Return a picture as its EXIF orientation says; metadata that cannot be read does not matter."""
    with contextlib.suppress(Exception):  # Pillow raises many exception types for damaged metadata
        return picture.transpose(ORIENTATIONS[picture.getexif()[ExifTags.Base.Orientation]])
    return picture


def _rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB: 16 bits are scaled to 8, transparency becomes white."""
    if picture.mode.startswith(("I", "F")):
        scale = 1 if picture.mode == "F" else 257  # 65,535 becomes 255
        values = np.asarray(picture, np.float64) / scale
        picture = Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")
