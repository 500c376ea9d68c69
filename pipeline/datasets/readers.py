"""Readers of the data sets: write the images of a download, a package or a folder; return their records."""

import functools
import hashlib
import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.datasets.arrays import read_images
from pipeline.datasets.files import PictureFile
from pipeline.datasets.folders import (
    UNASSIGNED,
    identity_of,
    list_first,
    picture_files,
    skipped_entries,
)
from pipeline.datasets.images import ImageWriter
from pipeline.datasets.pictures import decode_picture, digest_of_picture, fit_picture
from pipeline.datasets.table import SPLITS, Records
from pipeline.download.archive import read_archive
from pipeline.download.cifar import ARCHIVES
from pipeline.errors import DamagedFile
from pipeline.formatting import pluralize
from pipeline.machine import usable_cores
from pipeline.progress import Progress
from pipeline.storage.publishing import sha256_of

# sha256 of scikit-learn's digits as (1797, 8, 8) uint8
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
DIGITS_LEVELS = 16  # the largest gray value of a digit
DARK = 64  # of 255 levels: the largest value of 14 bits in a picture of 16

logger = logging.getLogger(__name__)


def read_cifar(name: str, archive: Path, writer: ImageWriter, progress: Progress) -> Records:
    """Read the data set of a name in ARCHIVES: 50,000 train, then 10,000 test images; checks every digest."""
    row = ARCHIVES[name]
    progress(f"read {row.title}", 0, 1, "archives")
    data = read_archive(row, archive)
    writer.add(data.images)
    is_test = np.arange(len(data.labels)) >= data.train_count
    return Records(data.labels, list(data.names), tuple(data.class_names), is_test)


read_cifar10 = functools.partial(read_cifar, "cifar10")
read_cifar100 = functools.partial(read_cifar, "cifar100")


def read_digits(_: None, writer: ImageWriter, progress: Progress) -> Records:
    """Read scikit-learn's 8x8 digits as 32x32 RGB: gray values 0…16 scaled to 0…255, bilinear resize."""
    progress("read digits", 0, 1, "files")
    digits = load_digits()
    small = digits.images.astype(np.uint8)
    digest = hashlib.sha256(small.tobytes()).hexdigest()
    if digest != DIGITS_SHA256:
        raise DamagedFile(f"scikit-learn's digits: expected sha256 {DIGITS_SHA256}, found {digest}")
    gray = np.round(small * (255 / DIGITS_LEVELS)).astype(np.uint8)
    side, bilinear = (writer.size, writer.size), Image.Resampling.BILINEAR
    large = np.stack([np.asarray(Image.fromarray(image).resize(side, bilinear)) for image in gray])
    names = [f"digit_{position:04d}.png" for position in range(len(large))]
    writer.add(np.repeat(large[..., None], 3, axis=-1))
    return Records(digits.target.astype(np.int64), names, tuple("0123456789"), None)


def read_folder(root: Path, writer: ImageWriter, progress: Progress, layout: str = "auto") -> Records:
    """Read the pictures of a folder or a table, cropped and resized to the writer's size, on all cores.

    The content is the sha256 of each picture's decoded pixels, before it is cropped and resized. Files that
    cannot be read or are not pictures are left out and listed in unreadable, as (name, why).
    """
    files = picture_files(root, layout)
    class_names = tuple(sorted({file.class_name for file in files}))
    digests, unreadable, deep = {}, [], {}
    content: dict[PictureFile, bytes] = {}
    rows = {file.row for file in files if file.row}  # of a NumPy file
    source: Iterator[np.ndarray | None] = read_images(root, rows) if rows else itertools.repeat(None)
    read = functools.partial(_read, size=writer.size, digest=sha256_of(root) if rows else "")
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(files), writer.block):
            block, images = files[start : start + writer.block], []
            for file, picture in zip(block, pool.map(read, block, source), strict=True):
                digests[file.entry] = picture.file_digest
                if picture.pixels is None:
                    unreadable.append((file.name, picture.why))
                else:
                    images.append(picture.pixels)
                    content[file] = picture.content
                    if picture.brightest is not None:
                        deep[file.name] = picture.brightest
            if images:
                writer.add(np.stack(images))
            progress("read pictures", start + len(block), len(files), "pictures")
    if dark := [name for name, brightest in deep.items() if brightest <= DARK]:
        count = pluralize(len(deep), "picture")
        reason = f"{len(dark)} of {count} with 16 bits per value have no value above {DARK} of 255"
        advice = "if their values have 10, 12 or 14 bits, scale them to 16"
        logger.warning("%s: %s: %s; %s", root, reason, list_first(dark), advice)
    keys = [
        hashlib.sha256(file.group.encode()).digest() if file.group else digest
        for file, digest in content.items()
    ]
    weights = np.array([file.weight for file in content], np.float32)
    return Records(
        np.array([class_names.index(file.class_name) for file in content], np.int64),
        [file.name for file in content],
        class_names,
        None,
        content=np.frombuffer(b"".join(content.values()), np.uint8).reshape(-1, 32),
        split_keys=np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32),
        source_split=np.array([SPLITS.get(file.split, UNASSIGNED) for file in content], np.uint8),
        weights=weights if (weights != 1).any() else None,
        unreadable=(*unreadable, *skipped_entries(root, files)),
        identity=identity_of(digests),
    )


class _Picture(NamedTuple):
    """A file's sha256; the picture's pixels, the digest of its decoded pixels and, if the file has 16 bits,
    its largest value in 0..255; or why it is unreadable.
    """

    file_digest: str
    pixels: np.ndarray | None
    content: bytes = b""
    brightest: int | None = None
    why: str = ""


def _read(file: PictureFile, image: np.ndarray | None, *, size: int, digest: str) -> _Picture:
    """Read a file, or take an image of a NumPy file with this digest."""
    try:
        digest = digest or sha256_of(file.path)
        picture = decode_picture(file.path) if image is None else Image.fromarray(image).convert("RGB")
        brightest = int(np.asarray(picture).max()) if picture.info.get("bits") == 16 else None
        return _Picture(digest, fit_picture(picture, size), digest_of_picture(picture), brightest)
    except DamagedFile as error:
        return _Picture(digest, None, why=str(error).removeprefix(f"{file.path}: "))
    except OSError as error:
        return _Picture("", None, why=error.strerror or str(error))
