"""Readers of the data sets: from what was downloaded, or from a package, to raw images in memory."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.datasets.folders import UNGIVEN, PictureFile, identity_of, picture_files, strangers
from pipeline.datasets.pictures import read_picture
from pipeline.datasets.table import IMAGE_SIZE, SPLITS, RawImages
from pipeline.download.archive import read_archive
from pipeline.errors import DamagedFile
from pipeline.machine import usable_cores
from pipeline.progress import Progress
from pipeline.storage.publishing import sha256_of

# sha256 of scikit-learn's digits as (1797, 8, 8) uint8
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
DIGITS_LEVELS = 16  # the largest grey value of a digit


def read_cifar10(archive: Path, progress: Progress) -> RawImages:
    """Return CIFAR-10 from its archive, every member checked by sha256; 50,000 train, then 10,000 test."""
    progress("read CIFAR-10", 0, 1, "archives")
    data = read_archive(archive)
    is_test = np.arange(len(data.labels)) >= data.train_count
    return RawImages(data.images, data.labels, list(data.names), tuple(data.class_names), is_test)


def read_digits(_: None, progress: Progress) -> RawImages:
    """Return scikit-learn's 8x8 digits as 32x32 RGB; bilinear, grey values 0…16 scaled to 0…255."""
    progress("read digits", 0, 1, "files")
    digits = load_digits()
    small = digits.images.astype(np.uint8)
    found = hashlib.sha256(small.tobytes()).hexdigest()
    if found != DIGITS_SHA256:
        raise DamagedFile(f"scikit-learn's digits: expected sha256 {DIGITS_SHA256}, found {found}")
    grey = np.round(small * (255 / DIGITS_LEVELS)).astype(np.uint8)
    side, bilinear = (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR
    large = np.stack([np.asarray(Image.fromarray(image).resize(side, bilinear)) for image in grey])
    names = [f"digit_{position:04d}.png" for position in range(len(large))]
    images = np.repeat(large[..., None], 3, axis=-1)
    return RawImages(images, digits.target.astype(np.int64), names, tuple("0123456789"), None)


REPORTED = 50  # pictures between two reports of progress


def read_folder(root: Path, progress: Progress) -> RawImages:
    """Return the pictures of a folder as (N, 32, 32, 3) uint8 with the sha256 of each one's pixels.

    What cannot be read, and what is no picture, is left out and listed in unreadable, as (name, why). Files
    are read and decoded on every core at a time.
    """
    files = picture_files(root)
    class_names = tuple(sorted({file.class_name for file in files}))
    digests, unreadable = {}, []
    kept: list[PictureFile] = []
    images = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for done, (file, found) in enumerate(zip(files, pool.map(_read, files), strict=True), start=1):
            digests[file.name], pixels, why = found
            if pixels is None:
                unreadable.append((file.name, why))
            else:
                images[len(kept)] = pixels
                kept.append(file)
            if done % REPORTED == 0 or done == len(files):
                progress("read pictures", done, len(files), "pictures")
    images = images[: len(kept)]
    content = [hashlib.sha256(image.tobytes()).digest() for image in images]
    return RawImages(
        images,
        np.array([class_names.index(file.class_name) for file in kept], np.int64),
        [file.name for file in kept],
        class_names,
        None,
        content=np.array([list(digest) for digest in content], np.uint8).reshape(-1, 32),
        given=np.array([SPLITS[file.part] if file.part else UNGIVEN for file in kept], np.uint8),
        unreadable=(*unreadable, *strangers(root, files)),
        identity=identity_of(digests),
    )


def _read(file: PictureFile) -> tuple[str, np.ndarray | None, str]:
    """Return the sha256 of a file, its picture or None, and why there is none."""
    try:
        digest = sha256_of(file.path)
        return digest, read_picture(file.path, IMAGE_SIZE), ""
    except DamagedFile as error:
        return digest, None, str(error).removeprefix(f"{file.path}: ")
    except OSError as error:
        return "", None, error.strerror or str(error)
