"""Read picture files of any size and mode as upright sRGB, and fit them to a square."""

import contextlib
import functools
import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from pipeline.datasets.files import FORMATS, why_unread
from pipeline.errors import DamagedFile

LARGEST_PIXELS = 100_000_000  # of a picture; a small file can declare a huge size
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF
PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20  # bytes; Pillow refuses pictures with more text or color profile
SRGB = ImageCms.createProfile("sRGB")
RENDERING = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
SAME_COLOR = 2  # of 255 levels; profiles that are all called sRGB differ by 1
ORIENTATIONS = dict(zip(range(2, 9), map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), strict=True))  # of EXIF
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Of sizes, layouts, compression, colors and the orientation.
TIFF_TAGS = set(np.r_[256:267, 273:275, 277:280, 284, 292:294, 317, 320:348, 512:533])
JPEG_METADATA, START_OF_SCAN = (*range(0xE0, 0xEE), 0xEF, 0xFE), b"\xda"  # markers; 0xEE is about colors
# The messages of other errors are about Pillow's objects.
READABLE = OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError


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
    """Return a picture file upright in sRGB at its own size; the first frame or page if it has several.

    info has only "bits" of each value in the file, 16 or 8 (or fewer). Raises DamagedFile if the file is not
    a picture of FORMATS, is damaged or has more than LARGEST_PIXELS.
    """
    if why := why_unread(path):
        raise DamagedFile(f"{path}: {why}")
    try:
        with _Clamped(path) as stream:
            try:
                return _decode(path, stream)
            except DamagedFile:
                raise
            except Exception:  # Pillow raises many exception types for damaged files
                stream.seek(0)
                if not (pixels := _without_metadata(path, stream)):
                    raise
                return _decode(path, io.BytesIO(pixels))
    except DamagedFile:
        raise
    except UnidentifiedImageError:
        raise DamagedFile(f"{path}: not a readable picture (expected one of {', '.join(FORMATS)})") from None
    except Exception as problem:
        reason = getattr(problem, "strerror", None) or (isinstance(problem, READABLE) and str(problem))
        raise DamagedFile(f"{path}: not a readable picture ({reason or 'damaged'})") from None


def _decode(path: Path, stream: BinaryIO) -> Image.Image:
    with Image.open(stream, formats=FORMATS) as file:
        tags = getattr(file, "tag_v2", {})  # of TIFF, whose tiles may be larger than the picture
        tile = float(tags.get(TILE_WIDTH, 0)), float(tags.get(TILE_LENGTH, 0))
        for width, height in (file.size, tile):
            if width * height > LARGEST_PIXELS:
                found = f"{width:,.0f} x {height:,.0f}"
                raise DamagedFile(f"{path}: expected {LARGEST_PIXELS:,} pixels at most, found {found}")
        if file.format == "TIFF" and file.mode in ("I", "F"):
            raise DamagedFile(f"{path}: expected values of 8 or 16 bits, found 32; convert it to PNG or JPEG")
        bits = 16 if file.mode.startswith("I") or ";16" in str(file.tile) and file.format != "BMP" else 8
        file.load()  # before the metadata, which may be damaged
        picture = _srgb(_upright(file))
        picture.info = {"bits": bits}
        return picture


def _without_metadata(path: Path, stream: BinaryIO) -> bytes:
    """Return a PNG, JPEG or TIFF file without what its pixels do not need, else b""; DamagedFile for HEIC."""
    head = stream.read(12)
    if head[4:8] == b"ftyp" and head[8:12] != b"avif":
        raise DamagedFile(f"{path}: HEIC is not read, whatever its name; convert it to PNG or JPEG")
    is_png, is_jpeg = head.startswith(b"\x89PNG\r\n\x1a\n"), head.startswith(b"\xff\xd8")
    if head[:4] in (b"II*\0", b"MM\0*"):
        return _without_tags(head + stream.read(), "little" if head[:1] == b"I" else "big")
    content, start = head + stream.read() if is_png or is_jpeg else b"", 8 if is_png else 2
    kept = [content[:start]]
    while is_png and start < len(content):  # chunks: length of the data, type, data, CRC
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        kept += [content[start:end]] if content[start + 4 : start + 8] in PNG_CHUNKS else []
        start = end
    while is_jpeg and content[start + 1 : start + 2] not in (b"", START_OF_SCAN):  # marker, length, data
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        kept += [content[start:end]] if content[start + 1] not in JPEG_METADATA else []
        start = end
    return b"".join([*kept, content[start:]])


def _without_tags(content: bytes, order: Literal["little", "big"]) -> bytes:
    """Return a TIFF file whose first table has only TIFF_TAGS; nothing else moves."""
    start = int.from_bytes(content[4:8], order) + 2  # of the tags of 12 bytes, whose number is before them
    end = start + 12 * int.from_bytes(content[start - 2 : start], order)
    tags = [content[place : place + 12] for place in range(start, end, 12)]
    kept = [tag for tag in tags if int.from_bytes(tag[:2], order) in TIFF_TAGS]
    table = b"".join([len(kept).to_bytes(2, order), *kept]).ljust(end - start + 6, b"\0")
    return content[: start - 2] + table + content[end + 4 :]


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


def _srgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of any mode to sRGB: 16 bits are scaled to 8, transparency becomes white."""
    mode = "L" if Image.getmodebase(picture.mode) == "L" else "RGB"
    transform = _transform_to_srgb(
        picture.info.get("icc_profile"), picture.mode if picture.mode in ("CMYK", "LAB") else mode
    )
    if picture.mode.startswith("I"):
        values = np.round(np.asarray(picture, np.float64) / 257)  # 65,535 becomes 255
        picture = Image.fromarray(values.astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return transform.apply(picture.convert(transform.input_mode)) if transform else picture.convert("RGB")


@functools.lru_cache(maxsize=16)
def _transform_to_srgb(profile: Any, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB for pictures of a color profile and mode (L, RGB, CMYK or LAB).

    None if there is no profile, if it is broken or for another mode, or if it is sRGB itself: on a grid of
    colors it changes no value by more than SAME_COLOR. LAB needs no profile.
    """
    try:
        lab = ImageCms.createProfile("LAB") if mode == "LAB" else None
        source = lab or ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, SRGB, mode, "RGB", *RENDERING)
    except (ImageCms.PyCMSError, OSError, TypeError):
        return None
    if mode in ("L", "RGB"):
        levels = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1)
        grid = Image.fromarray(levels.reshape(len(levels), -1, 3).astype(np.uint8)).convert(mode)
        change = np.asarray(transform.apply(grid), int) - np.asarray(grid.convert("RGB"), int)
        return transform if np.abs(change).max() > SAME_COLOR else None
    return transform
