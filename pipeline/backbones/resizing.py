"""Bilinear, antialiased resizing as a matrix, for libraries without tf.image.resize."""

from __future__ import annotations

import numpy as np


def resize_matrix(source: int, target: int) -> np.ndarray:
    """Return the weights (target, source) float32 of pixels in resized pixels along one axis.

    The kernel is a triangle whose half-width is one pixel of the coarser of both grids.
    """
    scale = source / target
    centers = (np.arange(target) + 0.5) * scale
    distances = np.abs(np.arange(source) + 0.5 - centers[:, None])
    weights = np.maximum(0, 1 - distances / max(scale, 1))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
