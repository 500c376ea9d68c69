"""Pictures of every format, size and mode become square RGB arrays; other files are an error."""

from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from pipeline.datasets import pictures
from pipeline.datasets.folders import pictures_below
from pipeline.datasets.pictures import read_picture
from pipeline.errors import DamagedFile

RNG = np.random.default_rng(0)


def smooth(width: int, height: int) -> Image.Image:
    """Return a picture whose colors change slowly, so that JPEG keeps them."""
    rows, columns = np.mgrid[:height, :width]
    red, green = 255 * rows / height, 255 * columns / width
    return Image.fromarray(np.stack([red, green, 255 - red], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".webp", ".jpg", ".jpeg", ".PNG"])
def test_every_format_is_read(tmp_path, suffix):
    path = tmp_path / f"one{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95} if "jp" in suffix else {}
    smooth(32, 32).save(path, **options)
    pixels = read_picture(path, 32)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
    tolerance = {".jpg": 12, ".jpeg": 12, ".gif": 60}.get(suffix, 0)  # GIF has 256 colors
    assert np.abs(pixels.astype(int) - np.asarray(smooth(32, 32), int)).max() <= tolerance


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


def test_first_frame_of_an_animation_is_read(tmp_path):
    first, second = Image.new("RGB", (32, 32), "white"), Image.new("RGB", (32, 32), "black")
    first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
    assert read_picture(tmp_path / "two.gif", 32).min() == 255


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
    smooth(32, 32).save(tmp_path / "one.tiff")
    (tmp_path / "one.tiff").rename(tmp_path / "one.png")
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


METADATA = {  # what a picture may carry beside its pixels
    "a color profile of 3 MB": lambda picture, path: picture.save(path, icc_profile=bytes(3_000_000)),
    "a text of 2 MB": _with_text,
    "no TIFF in EXIF": lambda picture, path: picture.save(path, exif=b"Exif\0\0no TIFF at all"),
    "EXIF cut off": lambda picture, path: picture.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12"),
    "an orientation of 77": lambda picture, path: picture.save(path, exif=_orientation(77)),
}


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_never_decides_whether_a_picture_is_read(tmp_path, kind):
    METADATA[kind](smooth(32, 32), tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png", 32), np.asarray(smooth(32, 32)))


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_that_of_pillow(tmp_path, orientation):
    smooth(30, 20).crop((0, 0, 20, 20)).save(tmp_path / "a.png", exif=_orientation(orientation))
    with Image.open(tmp_path / "a.png") as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    assert np.array_equal(read_picture(tmp_path / "a.png", 20), expected)


def test_a_message_about_another_file_names_the_formats_and_no_inner_object(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DamagedFile, match=r"a\.png: not a readable picture \(expected one of PNG, JPEG"):
        read_picture(tmp_path / "a.png", 32)
