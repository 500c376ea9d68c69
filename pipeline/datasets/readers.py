"""Readers of the data sets: load a downloaded file, a package's data or a folder as raw images in memory."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.datasets.folders import UNASSIGNED, PictureFile, identity_of, picture_files, skipped_entries
from pipeline.datasets.pictures import read_picture
from pipeline.datasets.table import IMAGE_SIZE, SPLITS, RawImages
from pipeline.download.archive import read_archive
from pipeline.errors import DamagedFile
from pipeline.machine import usable_cores
from pipeline.progress import Progress
from pipeline.storage.publishing import sha256_of

# sha256 of scikit-learn's digits as (1797, 8, 8) uint8
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
DIGITS_LEVELS = 16  # the largest gray value of a digit


def read_cifar10(archive: Path, progress: Progress) -> RawImages:
    """Return CIFAR-10 from its archive: 50,000 train, then 10,000 test images; sha256-checks every member."""
    progress("read CIFAR-10", 0, 1, "archives")
    data = read_archive(archive)
    is_test = np.arange(len(data.labels)) >= data.train_count
    return RawImages(data.images, data.labels, list(data.names), tuple(data.class_names), is_test)


def read_digits(_: None, progress: Progress) -> RawImages:
    """Return scikit-learn's 8x8 digits as 32x32 RGB: gray values 0…16 scaled to 0…255, bilinear resize."""
    progress("read digits", 0, 1, "files")
    digits = load_digits()
    small = digits.images.astype(np.uint8)
    digest = hashlib.sha256(small.tobytes()).hexdigest()
    if digest != DIGITS_SHA256:
        raise DamagedFile(f"scikit-learn's digits: expected sha256 {DIGITS_SHA256}, found {digest}")
    gray = np.round(small * (255 / DIGITS_LEVELS)).astype(np.uint8)
    side, bilinear = (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR
    large = np.stack([np.asarray(Image.fromarray(image).resize(side, bilinear)) for image in gray])
    names = [f"digit_{position:04d}.png" for position in range(len(large))]
    images = np.repeat(large[..., None], 3, axis=-1)
    return RawImages(images, digits.target.astype(np.int64), names, tuple("0123456789"), None)


REPORT_EVERY = 50  # pictures per progress report


def read_folder(root: Path, progress: Progress) -> RawImages:
    """Return the pictures of a folder as (N, 32, 32, 3) uint8 with the sha256 of each one's pixels.

    Files that cannot be read or are not pictures are left out and listed in unreadable, as (name, why).
    Files are read and decoded on all cores.
    """
    files = picture_files(root)
    class_names = tuple(sorted({file.class_name for file in files}))
    digests, unreadable = {}, []
    readable: list[PictureFile] = []
    images = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for done, (file, result) in enumerate(zip(files, pool.map(_read, files), strict=True), start=1):
            digests[file.name], pixels, why = result
            if pixels is None:
                unreadable.append((file.name, why))
            else:
                images[len(readable)] = pixels
                readable.append(file)
            if done % REPORT_EVERY == 0 or done == len(files):
                progress("read pictures", done, len(files), "pictures")
    images = images[: len(readable)]
    content = [hashlib.sha256(image.tobytes()).digest() for image in images]
    return RawImages(
        images,
        np.array([class_names.index(file.class_name) for file in readable], np.int64),
        [file.name for file in readable],
        class_names,
        None,
        content=np.array([list(digest) for digest in content], np.uint8).reshape(-1, 32),
        source_split=np.array([SPLITS.get(file.split, UNASSIGNED) for file in readable], np.uint8),
        unreadable=(*unreadable, *skipped_entries(root, files)),
        identity=identity_of(digests),
    )


def _read(file: PictureFile) -> tuple[str, np.ndarray | None, str]:
    """Return the sha256 of a file, its pixels or None, and why it cannot be read."""
    try:
        digest = sha256_of(file.path)
        return digest, read_picture(file.path, IMAGE_SIZE), ""
    except DamagedFile as error:
        return digest, None, str(error).removeprefix(f"{file.path}: ")
    except OSError as error:
        return "", None, error.strerror or str(error)
