"""Winograd's convolution with gradients: a quarter of a 3x3 convolution's products, in both directions.

The gradients follow from the chain rule: an output is a sum of products of transformed tiles and transformed
kernels, so the transpose of each transform carries a gradient back (see backbones.winograd for the forward
transforms). Maps whose sides are not multiples of TILE are padded.
"""

from collections.abc import Callable

import tensorflow as tf

from pipeline.backbones.winograd import column_tiles, combined, fused, line_outputs, row_tiles, transforms

TILE = 4  # outputs per side of a tile

# From the gradient of the output to those of the inputs and the kernel.
Gradients = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@tf.custom_gradient
def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
    """Return the zero-padded convolution (B, H, W, out) of maps x (B, H, W, in), all sizes known.

    Products are in the dtype of x, the sums of the transforms in float32; the gradient of the kernel
    (3, 3, in, out) has the kernel's dtype, which should be float32.
    """
    height, width = x.shape[1:3]
    below, right = -height % TILE, -width % TILE
    shape = (x.shape[0], (height + below) // TILE, (width + right) // TILE)
    padded = tf.pad(x, [[0, 0], [1, 1 + below], [1, 1 + right], [0, 0]])
    tiles = [column_tiles(rows, TILE, x.dtype) for rows in row_tiles(padded, TILE)]
    factors = _factors(kernel, x.dtype)
    products = [tf.matmul(*pair) for pair in zip(tiles, factors, strict=True)]
    y = _maps(line_outputs(products, TILE), shape, x.dtype)

    def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        upstream = tf.pad(upstream, [[0, 0], [0, below], [0, right], [0, 0]])
        d_products = [_column_gradients(rows, x.dtype) for rows in _row_gradients(upstream)]
        pairs = zip(tiles, d_products, strict=True)
        d_factors = [tf.matmul(*pair, transpose_a=True) for pair in pairs]
        pairs = zip(d_products, factors, strict=True)
        d_tiles = [tf.matmul(*pair, transpose_b=True) for pair in pairs]
        d_x = _d_maps(_d_lines(d_tiles, shape), shape, x.dtype)
        return d_x[:, :height, :width], _d_kernel(d_factors, kernel.dtype)

    return y[:, :height, :width], gradients


@fused
def _factors(kernel: tf.Tensor, dtype: tf.DType) -> list[tf.Tensor]:
    """Return a kernel (3, 3, in, out) as n factors (n, in, out) of the products; n = TILE + 2."""
    matrix = transforms(TILE)[1]
    rows = combined(matrix, tf.unstack(tf.cast(kernel, tf.float32)))
    return [tf.cast(tf.stack(combined(matrix, tf.unstack(row))), dtype) for row in rows]


@fused
def _maps(lines: list[tf.Tensor], shape: tuple[int, int, int], dtype: tf.DType) -> tf.Tensor:
    """Return the maps (B, H, W, out) of TILE lines (n, tiles, out) of all tiles."""
    return _from_pixels([combined(transforms(TILE)[2], tf.unstack(line)) for line in lines], shape, dtype)


@fused
def _row_gradients(upstream: tf.Tensor) -> list[tf.Tensor]:
    """Return the transposed transform of the rows of outputs as n tensors (B, tiles, W, out)."""
    lines = [tf.cast(upstream[:, line::TILE], tf.float32) for line in range(TILE)]
    return combined(transforms(TILE)[2].T, lines)


@fused
def _column_gradients(rows: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return the gradient of one row of products, (n, tiles, out)."""
    parts = combined(transforms(TILE)[2].T, [rows[:, :, column::TILE] for column in range(TILE)])
    return tf.stack([tf.reshape(tf.cast(part, dtype), (-1, rows.shape[3])) for part in parts])


@fused
def _d_kernel(d_factors: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """Return the gradient (3, 3, in, out) of a kernel from those of its factors."""
    matrix = transforms(TILE)[1].T
    rows = combined(matrix, [tf.cast(part, tf.float32) for part in d_factors])
    return tf.cast(tf.stack([tf.stack(combined(matrix, tf.unstack(row))) for row in rows]), dtype)


@fused
def _d_lines(d_tiles: list[tf.Tensor], shape: tuple[int, int, int]) -> list[tf.Tensor]:
    """Return the gradient of TILE lines of all tiles, each (n, B, tiles down, tiles across, in)."""
    parts = [tf.reshape(tile, (tile.shape[0], *shape, tile.shape[2])) for tile in d_tiles]
    return _overlapped(combined(transforms(TILE)[0].T, [tf.cast(part, tf.float32) for part in parts]))


@fused
def _d_maps(lines: list[tf.Tensor], shape: tuple[int, int, int], dtype: tf.DType) -> tf.Tensor:
    """Return the gradient (B, H, W, in) of maps from that of the lines of all tiles."""
    matrix = transforms(TILE)[0].T
    pixels = [_overlapped(combined(matrix, tf.unstack(line))) for line in lines]
    return _from_pixels(pixels, shape, dtype)


def _overlapped(parts: list[tf.Tensor]) -> list[tf.Tensor]:
    """Return the TILE inner pixels of all tiles, to which the outer pixels of their neighbors are added.

    parts are the n pixels of padded tiles; their third axis counts tiles. The last two pixels of a tile are
    the first two of the next. Pixels outside the maps are dropped.
    """

    def moved(x: tf.Tensor, before: int, after: int) -> tf.Tensor:
        kept = x[:, :, after : x.shape[2] - before]
        return tf.pad(kept, [[before, after] if axis == 2 else [0, 0] for axis in range(x.shape.rank)])

    first, *inner, last = parts[1:-1]
    return [first + moved(parts[-1], 1, 0), *inner, last + moved(parts[0], 0, 1)]


def _from_pixels(pixels: list[list[tf.Tensor]], shape: tuple[int, int, int], dtype: tf.DType) -> tf.Tensor:
    """Return maps (B, H, W, C) from TILE lines of TILE pixels of tiles; shape is (B, down, across)."""
    lines = [
        tf.stack([tf.reshape(tf.cast(pixel, dtype), (*shape, pixel.shape[-1])) for pixel in line], axis=3)
        for line in pixels
    ]
    count, down, across = shape
    return tf.reshape(tf.stack(lines, axis=2), (count, TILE * down, TILE * across, lines[0].shape[-1]))
