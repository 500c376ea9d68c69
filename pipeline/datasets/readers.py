"""Readers of the data sets: from what was downloaded, or from a package, to raw images in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.datasets.table import IMAGE_SIZE, RawImages
from pipeline.errors import DamagedFile
from pipeline.progress import Progress

# sha256 of scikit-learn's digits as (1797, 8, 8) uint8
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
DIGITS_LEVELS = 16  # the largest grey value of a digit


def read_cifar10(archive: Path, progress: Progress) -> RawImages:
    """Return CIFAR-10 from its archive, every member checked by sha256; 50,000 train, then 10,000 test."""
    import numpy as np

    from pipeline.download.cifar10 import read_archive

    progress("read CIFAR-10", 0, 1, "archives")
    data = read_archive(archive)
    is_test = np.arange(len(data.labels)) >= data.train_count
    return RawImages(data.images, data.labels, list(data.names), tuple(data.class_names), is_test)


def read_digits(_: None, progress: Progress) -> RawImages:
    """Return scikit-learn's 8x8 digits as 32x32 RGB; bilinear, grey values 0…16 scaled to 0…255."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

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
