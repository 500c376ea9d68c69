"""Pictures of every format, size and mode become square RGB arrays; other files are an error."""

from __future__ import annotations

import contextlib
import resource
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import small_profiles
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo

from pipeline.datasets import pictures
from pipeline.datasets.files import SUFFIXES, pictures_below
from pipeline.datasets.pictures import read_picture
from pipeline.errors import DamagedFile

RNG = np.random.default_rng(0)


def smooth(width: int, height: int) -> Image.Image:
    """Return a picture whose colors change slowly, so that JPEG keeps them."""
    rows, columns = np.mgrid[:height, :width]
    red, green = 255 * rows / height, 255 * columns / width
    return Image.fromarray(np.stack([red, green, 255 - red], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG"])
def test_every_format_is_read(tmp_path, suffix):
    path = tmp_path / f"one{suffix}"
    lossy = suffix in (".jpg", ".jpeg", ".jpe", ".jfif", ".avif")
    if suffix in (".pbm", ".pgm"):
        pytest.skip("the format has no colors; see below")
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95} if lossy else {}
    smooth(32, 32).save(path, format="DIB" if suffix == ".dib" else None, **options)
    pixels = read_picture(path, 32)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
    tolerance = 12 if lossy else 60 if suffix == ".gif" else 0  # GIF has 256 colors
    assert np.abs(pixels.astype(int) - np.asarray(smooth(32, 32), int)).max() <= tolerance


@pytest.mark.parametrize(("suffix", "dtype"), [(".pgm", np.uint8), (".pgm", np.uint16), (".pbm", bool)])
def test_formats_without_colors_are_read(tmp_path, suffix, dtype):
    values = np.zeros((32, 32), dtype)
    values[:16] = True if dtype is bool else np.iinfo(dtype).max
    Image.fromarray(values).save(tmp_path / f"one{suffix}")
    pixels = read_picture(tmp_path / f"one{suffix}", 32)
    assert np.array_equal(pixels, np.repeat(np.where(values, 255, 0).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_read(tmp_path, mode):
    gray = Image.fromarray(np.full((40, 50), 200, np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(np.full((40, 50), 200 * 257, np.uint16))
    elif mode == "1":
        picture = Image.new("1", (50, 40), 1)
    elif mode in ("LA", "RGBA", "CMYK", "P"):
        picture = gray.convert("RGB").convert(mode) if mode != "LA" else gray.convert("LA")
    else:
        picture = gray.convert(mode)
    path = tmp_path / ("one.jpg" if mode == "CMYK" else "one.png")
    picture.save(path)
    pixels = read_picture(path, 32)
    assert pixels.shape == (32, 32, 3)
    expected, tolerance = {"1": (255, 0), "P": (200, 22)}.get(mode, (200, 3))  # a palette has few colors
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def test_transparent_pixels_become_white(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[16:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    pixels = read_picture(tmp_path / "half.png", 32)
    assert (pixels[:16] == 255).all()
    assert (pixels[16:] == 0).all()


def test_picture_of_the_target_size_keeps_its_pixels(tmp_path):
    pixels = RNG.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    assert np.array_equal(read_picture(tmp_path / "noise.png", 32), pixels)


@pytest.mark.parametrize("size", [(90, 60), (60, 90)])
def test_picture_of_another_size_is_center_cropped_and_resized(tmp_path, size):
    picture = Image.new("RGB", size, "red")
    picture.paste(
        "blue", ((size[0] - 60) // 2, (size[1] - 60) // 2, (size[0] + 60) // 2, (size[1] + 60) // 2)
    )
    picture.save(tmp_path / "wide.png")
    assert (read_picture(tmp_path / "wide.png", 32) == (0, 0, 255)).all()


def test_exif_orientation_is_applied(tmp_path):
    picture, notes = Image.new("RGB", (32, 32), "black"), Image.Exif()
    picture.paste("white", (0, 0, 32, 16))
    notes[0x0112] = 6  # rotate by 90 degrees clockwise
    picture.save(tmp_path / "turned.png", exif=notes)
    pixels = read_picture(tmp_path / "turned.png", 32)
    assert pixels[:, 20:].min() == 255
    assert pixels[:, :12].max() == 0


@pytest.mark.parametrize("name", ["two.gif", "two.tif", "two.avif"])
def test_the_first_frame_or_page_is_read(tmp_path, name):
    first, second = Image.new("RGB", (32, 32), "white"), Image.new("RGB", (32, 32), "black")
    first.save(tmp_path / name, save_all=True, append_images=[second])
    assert read_picture(tmp_path / name, 32).min() == 255


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_file_that_is_not_a_picture_is_an_error_with_its_name(tmp_path, content):
    (tmp_path / "odd.png").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"odd\.png: not a readable picture"):
        read_picture(tmp_path / "odd.png", 32)


def test_truncated_picture_is_an_error(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedFile, match="not a readable picture"):
        read_picture(tmp_path / "cut.png", 32)


def test_unlisted_format_is_an_error(tmp_path):
    smooth(32, 32).save(tmp_path / "one.pcx")
    (tmp_path / "one.pcx").rename(tmp_path / "one.png")
    with pytest.raises(DamagedFile, match="expected one of PNG"):
        read_picture(tmp_path / "one.png", 32)


def test_picture_that_declares_a_huge_size_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_PIXELS", 1000)
    smooth(40, 30).save(tmp_path / "huge.png")
    with pytest.raises(DamagedFile, match="expected 1,000 pixels at most, found 40 x 30"):
        read_picture(tmp_path / "huge.png", 32)


def test_pictures_below_a_folder_are_listed_in_order(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", ".hidden/3.png", "b/.4.png", "b/words.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "c").symlink_to(tmp_path / "b")
    names = [path.relative_to(tmp_path).as_posix() for path in pictures_below(tmp_path)]
    assert names == ["a.webp", "b/1.jpg", "b/2.PNG"]


COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_tiff_of_every_mode_and_compression_has_the_pixels_of_png_or_of_its_conversion(
    tmp_path, mode, compression
):
    deep = Image.fromarray(RNG.integers(0, 65_536, (32, 32)).astype(np.uint16))
    picture = deep if mode == "I;16" else smooth(32, 32).convert(mode)
    picture.save(tmp_path / "a.tif", compression=compression)
    if mode == "CMYK":
        expected = np.asarray(picture.convert("RGB"))
    else:
        picture.save(tmp_path / "a.png")
        expected = read_picture(tmp_path / "a.png", 32)
    assert np.array_equal(read_picture(tmp_path / "a.tif", 32), expected)


def test_tiff_of_16_bits_in_big_endian_order_is_read(tmp_path):
    values = RNG.integers(0, 65_536, (32, 32)).astype(">u2")
    Image.frombytes("I;16B", (32, 32), values.tobytes()).save(tmp_path / "a.tif")
    assert np.array_equal(read_picture(tmp_path / "a.tif", 32)[..., 0], np.round(values / 257))


def test_a_lab_picture_becomes_rgb(tmp_path):
    profiles = map(ImageCms.createProfile, ("sRGB", "LAB"))
    lab = ImageCms.applyTransform(smooth(32, 32), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    lab.save(tmp_path / "a.tif")
    error = read_picture(tmp_path / "a.tif", 32).astype(int) - np.asarray(smooth(32, 32), int)
    assert np.abs(error).mean() < 2  # Lab of 8 bits is coarser than RGB


@pytest.mark.parametrize("values", [np.float32, np.int32])
def test_values_of_32_bits_are_an_error_that_says_what_to_do(tmp_path, values):
    Image.fromarray(np.ones((32, 32), values)).save(tmp_path / "a.tif")
    with pytest.raises(DamagedFile, match="expected values of 8 or 16 bits, found 32; convert it to PNG"):
        read_picture(tmp_path / "a.tif", 32)


@pytest.mark.parametrize("name", ["a.HEIC", "a.heif", "a.nef", "a.cr2", "a.CR3", "a.dng", "a.svg", "a.psd"])
def test_a_format_that_is_not_read_says_what_to_do_even_if_pillow_would_read_its_preview(tmp_path, name):
    smooth(32, 32).save(tmp_path / name, format="TIFF")
    with pytest.raises(
        DamagedFile, match=rf"{name} is not read; convert it to PNG or JPEG".replace("a.", ".")
    ):
        read_picture(tmp_path / name, 32)


def write_tiff(path, tags: dict[int, int], data: bytes) -> None:
    """Write a TIFF of these tags, besides the offset of its data (one tile)."""
    tags = {**tags, 324: 8 + 2 + 12 * (len(tags) + 2) + 4, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data)


@pytest.mark.parametrize(("side", "tile"), [(64, 32_768), (60_000, 64), (12_000, 64)])
def test_a_tiff_that_declares_a_huge_size_or_tile_is_refused_without_memory(tmp_path, side, tile):
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile}
    write_tiff(tmp_path / "a.tif", tags, zlib.compress(bytes(1000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFile, match="100,000,000 pixels at most|exceeds limit of"):
        read_picture(tmp_path / "a.tif", 32)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # kB


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_colors_of_a_profile_become_those_of_srgb(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    smooth(32, 32).save(path, quality=95)
    plain = read_picture(path, 32).astype(int)
    smooth(32, 32).save(path, quality=95, icc_profile=small_profiles.SWAPPED)
    assert np.abs(read_picture(path, 32) - plain[..., [1, 0, 2]]).max() <= 1
    assert np.abs(plain - plain[..., [1, 0, 2]]).max() > 100


def test_gray_and_cmyk_pictures_are_converted_by_profiles_of_their_own_kind_only(tmp_path):
    gray, ink = Image.new("L", (32, 32), 55), Image.new("CMYK", (32, 32), (10, 200, 30, 255))

    def read(picture: Image.Image, name: str, profile: bytes) -> set[int]:
        picture.save(tmp_path / name, icc_profile=profile)
        return {*read_picture(tmp_path / name, 32).flat}

    assert read(gray, "a.png", small_profiles.LINEAR_GRAY) == {
        128
    }  # 255 * (1.055 * 0.2157 ** (1 / 2.4) - 0.055)
    assert read(gray, "a.png", small_profiles.SWAPPED) == read(gray, "a.tif", small_profiles.NO_INK) == {55}
    assert read(ink, "a.tif", small_profiles.NO_INK) == read(ink, "a.jpg", small_profiles.NO_INK) == {255}
    assert read(ink, "a.tif", small_profiles.SRGB) == {0}
    deep = Image.fromarray(np.full((32, 32), 55 * 257, np.uint16))
    assert read(deep, "a.png", small_profiles.LINEAR_GRAY) == {128}


def test_a_picture_with_a_profile_of_srgb_keeps_its_pixels(tmp_path):
    noise = Image.fromarray(RNG.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    with Image.open(Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg") as file:
        profiles = small_profiles.SRGB, file.info["icc_profile"]
    assert b"IEC61966-2.1" in profiles[1]  # by Hewlett-Packard, in most photographs
    for profile in profiles:
        noise.save(tmp_path / "a.png", icc_profile=profile)
        assert np.array_equal(read_picture(tmp_path / "a.png", 32), np.asarray(noise))


def test_chunk_that_declares_four_gigabytes_allocates_no_memory(tmp_path):
    path = tmp_path / "one.png"
    smooth(32, 32).save(path)
    content = path.read_bytes()
    start = content.index(b"IDAT") - 4
    path.write_bytes(content[:start] + b"\xff\xff\xff\xff" + content[start + 4 :])
    tracemalloc.start()
    try:
        with contextlib.suppress(DamagedFile):  # Pillow accepts the truncated chunk
            read_picture(path, 32)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def _with_text(picture: Image.Image, path) -> None:
    notes = PngInfo()
    notes.add_text("notes", "x" * 2_000_000, zip=True)
    picture.save(path, pnginfo=notes)


def _with_chunk(name: bytes, data: bytes, crc: int | None = None):
    """Return a function that saves a picture as PNG with a chunk before its pixels."""

    def save(picture: Image.Image, path: Path) -> None:
        picture.save(path)
        content, check = path.read_bytes(), zlib.crc32(name + data) if crc is None else crc
        chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
        path.write_bytes(content[:33] + chunk + content[33:])  # after the signature and IHDR

    return save


def _with_segment(marker: int, data: bytes):
    """Return a function that saves a picture as JPEG with a segment of metadata before all others."""

    def save(picture: Image.Image, path: Path) -> None:
        picture.save(path, quality=95)
        content, segment = path.read_bytes(), struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
        path.write_bytes(content[:2] + segment + content[2:])

    return save


METADATA = {  # what a picture may carry beside its pixels
    "half a color profile": lambda picture, path: picture.save(
        path, icc_profile=small_profiles.SWAPPED[:300]
    ),
    "a color profile of 3 MB": lambda picture, path: picture.save(path, icc_profile=bytes(3_000_000)),
    "a text of 2 MB": _with_text,
    "no TIFF in EXIF": lambda picture, path: picture.save(path, exif=b"Exif\0\0no TIFF at all"),
    "EXIF cut off": lambda picture, path: picture.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12"),
    "an orientation of 77": lambda picture, path: picture.save(path, exif=_orientation(77)),
    "a rational where a text is expected": lambda picture, path: picture.save(
        path,
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIIIII", 0x131, 5, 1, 26, 0, 1, 3),
    ),  # Software
    "a text with a wrong checksum": _with_chunk(b"tEXt", b"Title\0x", crc=7),
    "a private chunk with a wrong checksum": _with_chunk(b"vpAg", b"\0" * 9, crc=7),
    "a resolution cut off": _with_chunk(b"pHYs", b"\0"),
    "a gamma cut off": _with_chunk(b"gAMA", b"\0"),
    "a rendering intent of no bytes": _with_chunk(b"sRGB", b""),
    "an animation of no bytes": _with_chunk(b"acTL", b""),
    "a text of unknown compression": _with_chunk(b"zTXt", b"Title\0\x63x"),
    "a color profile of unknown compression": _with_chunk(b"iCCP", b"icc\0\x63x"),
}
SEGMENTS = {  # of a JPEG file
    "JFIF cut off": _with_segment(0xE0, b"JFIF\0"),
    "a color profile cut off": _with_segment(0xE2, b"ICC_PROFILE\0"),
    "EXIF cut off": _with_segment(0xE1, b"Exif\0\0MM\0*"),
    "an image resource cut off": _with_segment(0xED, b"Photoshop 3.0\x008BIM\x04"),
}


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("kind", SEGMENTS)
def test_metadata_of_jpeg_never_decides_whether_a_picture_is_read(tmp_path, kind):
    smooth(32, 32).save(tmp_path / "plain.jpg", quality=95)
    SEGMENTS[kind](smooth(32, 32), tmp_path / "a.jpg")
    assert np.array_equal(read_picture(tmp_path / "a.jpg", 32), read_picture(tmp_path / "plain.jpg", 32))


def _tiff(order: str, picture: Image.Image) -> bytes:
    """Return a TIFF file of an RGB picture; ResolutionUnit is centimeters, XResolution is a text."""
    short, long, start = f"{order}HHLHH", f"{order}HHLL", 8 + 2 + 12 * 11 + 4
    width, height, pixels = *picture.size, picture.tobytes()
    tags = [
        struct.pack(short, Base.ImageWidth, 3, 1, width, 0),
        struct.pack(short, Base.ImageLength, 3, 1, height, 0),
        struct.pack(long, Base.BitsPerSample, 3, 3, start),
        struct.pack(short, Base.Compression, 3, 1, 1, 0),
        struct.pack(short, Base.PhotometricInterpretation, 3, 1, 2, 0),
        struct.pack(long, Base.StripOffsets, 4, 1, start + 6),
        struct.pack(short, Base.SamplesPerPixel, 3, 1, 3, 0),
        struct.pack(short, Base.RowsPerStrip, 3, 1, height, 0),
        struct.pack(long, Base.StripByteCounts, 4, 1, len(pixels)),
        struct.pack(f"{order}HHL4s", Base.XResolution, 2, 4, b"300"),
        struct.pack(short, Base.ResolutionUnit, 3, 1, 3, 0),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HLH", 42, 8, len(tags))
    return head + b"".join(tags) + bytes(4) + struct.pack(f"{order}3H", 8, 8, 8) + pixels


@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_of_tiff_never_decides_whether_a_picture_is_read(tmp_path, order):
    (tmp_path / "a.tif").write_bytes(_tiff(order, smooth(32, 32)))
    with pytest.raises(Image.UnidentifiedImageError):  # Pillow computes with the text
        Image.open(tmp_path / "a.tif")
    assert np.array_equal(read_picture(tmp_path / "a.tif", 32), np.asarray(smooth(32, 32)))


def test_metadata_of_a_compressed_tiff_does_not_matter_either(tmp_path):
    smooth(32, 32).save(tmp_path / "a.tif", compression="tiff_lzw", dpi=(72, 72))
    content = (tmp_path / "a.tif").read_bytes()
    unit, resolution = (
        struct.pack("<HHLH", Base.ResolutionUnit, 3, 1, 2),
        struct.pack("<HHL", Base.XResolution, 5, 1),
    )
    assert content.count(unit) == content.count(resolution) == 1
    content = content.replace(unit, struct.pack("<HHLH", Base.ResolutionUnit, 3, 1, 3))
    (tmp_path / "a.tif").write_bytes(content.replace(resolution, struct.pack("<HHL", Base.XResolution, 2, 1)))
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(tmp_path / "a.tif")
    assert np.array_equal(read_picture(tmp_path / "a.tif", 32), np.asarray(smooth(32, 32)))


def test_transparency_is_kept_when_metadata_is_damaged(tmp_path):
    clear = smooth(32, 32).convert("P")
    clear.info["transparency"] = bytes(256)
    _with_chunk(b"pHYs", b"\0")(clear, tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png", 32) == 255).all()


def test_heic_is_named_whatever_the_suffix(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(DamagedFile, match="HEIC is not read, whatever its name; convert it to PNG or JPEG"):
        read_picture(tmp_path / "photo.jpg", 32)


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_never_decides_whether_a_picture_is_read(tmp_path, kind):
    METADATA[kind](smooth(32, 32), tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png", 32), np.asarray(smooth(32, 32)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_that_of_pillow(tmp_path, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    smooth(30, 20).crop((0, 0, 20, 20)).save(path, exif=_orientation(orientation))
    with Image.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    assert np.array_equal(read_picture(path, 20), expected)


def test_a_message_about_another_file_names_the_formats_and_no_inner_object(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DamagedFile, match=r"a\.png: not a readable picture \(expected one of PNG, JPEG"):
        read_picture(tmp_path / "a.png", 32)
