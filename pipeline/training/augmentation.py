"""Random variations of images in the training loop; the seed and the number of the step decide them all."""

from __future__ import annotations

import tensorflow as tf


def augmented(
    images: tf.Tensor, seed: tf.Tensor, *, flip: bool, shift: int, mirrored: tf.Tensor | None = None
) -> tf.Tensor:
    """Return images (B, H, W, C) uint8, each flipped with chance 1/2 and shifted by -shift … shift pixels.

    seed is (2,) int32: the same seed gives the same variations, whatever came before. Pixels that a shift
    brings in from outside are the reflected edge. mirrored (B,) bool says which images are flipped where
    that is not left to chance.
    """
    if not (flip or shift):
        return images
    count, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    mirrored, start = _drawn(count, seed, flip=flip, shift=shift, mirrored=mirrored)
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    if shift:
        rows, columns = _reflected(rows + start[:, :1], height), _reflected(columns + start[:, 1:], width)
    if flip:
        columns = tf.where(mirrored[:, None], width - 1 - columns, columns)
    # One lookup a pixel: flips and shifts of whole images would copy them three times more.
    pixels = tf.reshape(rows[:, :, None] * width + columns[:, None, :], (count, height * width))
    flat = tf.reshape(images, (count, height * width, channels))
    return tf.reshape(tf.gather(flat, pixels, axis=1, batch_dims=1), tf.shape(images))


def drawn_views(
    count: tf.Tensor, seed: tf.Tensor, *, flip: bool, shift: int, mirrored: tf.Tensor | None = None
) -> tf.Tensor:
    """Return positions (count,) int32 in variation_views: what `augmented` does by the same seed."""
    mirrored, start = _drawn(count, seed, flip=flip, shift=shift, mirrored=mirrored)
    moves = 2 * shift + 1
    down, right = start[:, 0] % moves, start[:, 1] % moves
    return (tf.cast(mirrored, tf.int32) * moves + down) * moves + right


def _drawn(
    count: tf.Tensor, seed: tf.Tensor, *, flip: bool, shift: int, mirrored: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which of count images are mirrored, and where each starts (count, 2), down and to the right."""
    start = tf.zeros((count, 2), tf.int32)
    if shift:
        second = seed + tf.constant([0, 1], seed.dtype)
        start = tf.random.stateless_uniform((count, 2), second, maxval=2 * shift + 1, dtype=tf.int32) - shift
    if not flip:
        mirrored = tf.zeros((count,), tf.bool)
    elif mirrored is None:
        mirrored = tf.random.stateless_uniform((count,), seed) < 0.5
    return mirrored, start


def _reflected(places: tf.Tensor, size: int) -> tf.Tensor:
    """Return places at most size - 1 outside of 0 … size - 1 mirrored at the edge that they passed."""
    return size - 1 - tf.abs(size - 1 - tf.abs(places))
