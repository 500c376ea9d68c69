"""How alike two images are in their pixels, as they are and mirrored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHIFT = 3  # pixels: copies of one photograph are cut and scaled a little differently
MARGIN = 3  # pixels left out at each edge: frames around otherwise different images look alike
BLUR = 5  # pixels: the square whose mean is taken away, so that skies and lawns do not count
CHUNK = 1000  # pairs at a time: 4 MB for each array of grey values
TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Alikeness:
    """How alike pairs of images are: rms (k,) in 0..255, detail (k,) in -1..1, mirrored (k,) bool.

    mirrored says whether the second image fits better when it is mirrored left to right; rms and detail
    are then those of the mirrored one.
    """

    rms: np.ndarray
    detail: np.ndarray
    mirrored: np.ndarray


def compare(one: np.ndarray, other: np.ndarray) -> Alikeness:
    """Return how alike each of k pairs of images is; both are (k, height, width, 3) uint8."""
    starts = range(0, max(1, len(one)), CHUNK)
    parts = [_compare(one[start : start + CHUNK], other[start : start + CHUNK]) for start in starts]
    return Alikeness(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def rms_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the root mean square difference of pixel values, (k,) float64 in 0..255."""
    difference = one.astype(np.float32) - other.astype(np.float32)
    return np.sqrt(np.square(difference).mean(axis=(1, 2, 3), dtype=np.float64))


def detail_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation of two images' detail at the best shift of up to 3 pixels, (k,) in -1..1.

    Detail is the grey value without the mean of the 5 x 5 pixels around it; a frame of 3 pixels is left out.
    Without detail in one of the two it is 0.
    """
    ours, theirs = _detail(one), _detail(other)
    best = np.full(len(one), -1.0)
    for down in range(-SHIFT, SHIFT + 1):
        for across in range(-SHIFT, SHIFT + 1):
            found = _correlation(_moved(ours, down, across), _moved(theirs, -down, -across))
            best = np.maximum(best, found)
    return best


def _compare(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flipped = other[:, :, ::-1]
    straight, mirror = detail_correlation(one, other), detail_correlation(one, flipped)
    mirrored = mirror > straight + TINY
    rms = np.where(mirrored, rms_difference(one, flipped), rms_difference(one, other))
    return rms, np.maximum(straight, mirror), mirrored


def _detail(images: np.ndarray) -> np.ndarray:
    """Return (k, height - 6, width - 6) float32: grey values without the mean around them, frame cut off."""
    grey, around = images.mean(axis=3, dtype=np.float32), BLUR // 2
    padded = np.pad(grey, ((0, 0), (around, around), (around, around)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (BLUR, BLUR), axis=(1, 2))
    detail = grey - windows.mean(axis=(3, 4), dtype=np.float32)
    return detail[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _moved(images: np.ndarray, down: int, across: int) -> np.ndarray:
    """Return the part of images that another, moved by (down, across), covers."""
    height, width = images.shape[1:]
    return images[
        :,
        max(0, down) : height + min(0, down),
        max(0, across) : width + min(0, across),
    ]


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each pair, (k,) float64; 0 where one of them is constant."""
    one = one - one.mean(axis=(1, 2), keepdims=True)
    other = other - other.mean(axis=(1, 2), keepdims=True)
    shared = np.einsum("nhw,nhw->n", one, other, dtype=np.float64)
    sizes = np.einsum("nhw,nhw->n", one, one) * np.einsum("nhw,nhw->n", other, other)
    return shared / np.sqrt(np.maximum(sizes, TINY))
