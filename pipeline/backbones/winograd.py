"""Winograd's convolution F(m x m, 3x3) of Lavin & Gray (2015), arXiv:1509.09308.

A tile of (m + 2)² pixels gives m² outputs with (m + 2)² products for each pair of channels instead of 9m².
Rows and columns are transformed by the matrices of Toom and Cook; between the transforms of tiles and of
outputs are matrix products over all tiles. XLA fuses the sums of a transform into loops over memory.
"""

from functools import cache

import numpy as np
import tensorflow as tf

from pipeline.backbones.algorithms import WINOGRAD_POINTS

KERNEL_SIDE = 3

fused = tf.function(jit_compile=True, autograph=False)


@cache
def transforms(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the float64 transforms of tiles (n, n), kernels (n, 3) and outputs (tile, n); n = tile + 2.

    The rows of the first and the columns of the last are scaled by powers of two to at most about 1, and the
    kernels by the inverse, so that no product is large beside the others.
    """
    points = np.array(WINOGRAD_POINTS[tile])
    others = [np.delete(points, number) for number in range(len(points))]
    polynomials = [*(np.append(np.poly(roots)[::-1], 0) for roots in others), np.poly(points)[::-1]]
    values = [np.prod(point - roots) for point, roots in zip(points, others, strict=True)]
    tiles = np.array(polynomials)  # coefficients of the polynomial that is zero at all other points
    kernels = np.vander(points, KERNEL_SIDE, increasing=True) / np.array(values)[:, None]
    kernels = np.vstack([kernels, np.eye(KERNEL_SIDE)[-1]])
    outputs = np.vstack([np.vander(points, tile, increasing=True), np.eye(tile)[-1]]).T
    rows = 2.0 ** np.round(np.log2(np.abs(tiles).max(axis=1)))
    columns = 2.0 ** np.round(np.log2(np.abs(outputs).max(axis=0)))
    return tiles / rows[:, None], kernels * (rows * columns)[:, None], outputs / columns


def transformed_kernel(kernel: np.ndarray, tile: int) -> np.ndarray:
    """Return a kernel (3, 3, in, out) as the factors (n, n, in, out) float32 of the products."""
    matrix = transforms(tile)[1]
    both = np.kron(matrix, matrix).astype(np.float32)  # of rows and columns at once
    return (both @ kernel.reshape(KERNEL_SIDE**2, -1)).reshape(*[len(matrix)] * 2, *kernel.shape[2:])


def convolve(
    x: tf.Tensor, factors: list[tf.Tensor], bias: np.ndarray, tile: int, *, pool: bool = False
) -> tf.Tensor:
    """Return the zero-padded convolution (B, S, S, out) of x (B, S, S, in), with bias and ReLU.

    factors are transformed_kernel's, in the dtype of x; S is a multiple of tile. Products are in that dtype,
    the sums of both transforms in float32. pool takes the maximum of 2x2 pixels before maps are written.
    """
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])  # outside of XLA, whose loops it would slow down
    tiles = [column_tiles(rows, tile, x.dtype) for rows in row_tiles(padded, tile)]
    lines = line_outputs([tf.matmul(*pair) for pair in zip(tiles, factors, strict=True)], tile)
    height, shape = 2 if pool else 1, (x.shape[0], x.shape[1] // tile, x.shape[2] // tile)
    maps = [
        _pixels(lines[row : row + height], tf.constant(bias), tile, shape, x.dtype)
        for row in range(0, tile, height)
    ]
    return tf.reshape(tf.stack(maps, axis=2), (shape[0], shape[1] * len(maps), -1, bias.size))


def combined(matrix: np.ndarray, parts: list[tf.Tensor]) -> list[tf.Tensor]:
    """Return the sums of parts that each row of a matrix describes; XLA fuses them into one loop."""
    return [
        sum(float(factor) * part for factor, part in zip(row, parts, strict=True) if factor) for row in matrix
    ]


def _windows(x: tf.Tensor, axis: int, tile: int) -> list[tf.Tensor]:
    """Return the n pixels of all tiles along an axis of padded maps."""
    count, before = (x.shape[axis] - 2) // tile, (slice(None),) * axis
    starts = range(tile + KERNEL_SIDE - 1)
    return [x[(*before, slice(start, start + tile * (count - 1) + 1, tile))] for start in starts]


@fused
def row_tiles(padded: tf.Tensor, tile: int) -> list[tf.Tensor]:
    """Return the rows of all tiles of padded maps as n tensors (B, tiles, W + 2, in)."""
    return combined(transforms(tile)[0], _windows(tf.cast(padded, tf.float32), 1, tile))


@fused
def column_tiles(rows: tf.Tensor, tile: int, dtype: tf.DType) -> tf.Tensor:
    """Return one row of all tiles as (n, tiles, channels)."""
    tiles = combined(transforms(tile)[0], _windows(rows, 2, tile))
    return tf.stack([tf.reshape(tf.cast(part, dtype), (-1, rows.shape[3])) for part in tiles])


@fused
def line_outputs(products: list[tf.Tensor], tile: int) -> list[tf.Tensor]:
    """Return each line of outputs, before the transform of columns, as (n, tiles, out)."""
    return combined(transforms(tile)[2], [tf.cast(product, tf.float32) for product in products])


@fused
def _pixels(
    lines: list[tf.Tensor], bias: tf.Tensor, tile: int, shape: tuple[int, int, int], dtype: tf.DType
) -> tf.Tensor:
    """Return a line of pixels of all tiles, (B, tiles, pixels of a line, out), or the maxima of two lines."""
    pixels, *below = [combined(transforms(tile)[2], tf.unstack(line)) for line in lines]
    for other in below:
        highest = [tf.maximum(*pair) for pair in zip(pixels, other, strict=True)]
        pixels = [tf.maximum(*highest[column : column + 2]) for column in range(0, tile, 2)]
    activated = [tf.cast(tf.nn.relu(pixel + bias), dtype) for pixel in pixels]
    line = tf.stack([tf.reshape(pixel, (*shape, -1)) for pixel in activated], axis=3)
    return tf.reshape(line, (*shape[:2], shape[2] * len(activated), -1))
