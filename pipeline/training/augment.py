"""Random variations of images in the training loop; the seed and the number of the step decide them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def augmented(
    images: tf.Tensor, seed: tf.Tensor, *, flip: bool, shift: int, mirrored: tf.Tensor | None = None
) -> tf.Tensor:
    """Return images (B, H, W, C) uint8, each flipped with chance 1/2 and shifted by -shift … shift pixels.

    seed is (2,) int32: the same seed gives the same variations, whatever came before. Pixels that a shift
    brings in from outside are the reflected edge. mirrored (B,) bool says which images are flipped where
    that is not left to chance.
    """
    import tensorflow as tf

    if not (flip or shift):
        return images
    count, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    if shift:
        second = seed + tf.constant([0, 1], seed.dtype)
        start = tf.random.stateless_uniform((count, 2), second, maxval=2 * shift + 1, dtype=tf.int32) - shift
        rows, columns = _reflected(rows + start[:, :1], height), _reflected(columns + start[:, 1:], width)
    if flip:
        if mirrored is None:
            mirrored = tf.random.stateless_uniform((count,), seed) < 0.5
        columns = tf.where(mirrored[:, None], width - 1 - columns, columns)
    # One lookup a pixel: flips and shifts of whole images would copy them three times more.
    pixels = tf.reshape(rows[:, :, None] * width + columns[:, None, :], (count, height * width))
    flat = tf.reshape(images, (count, height * width, channels))
    return tf.reshape(tf.gather(flat, pixels, axis=1, batch_dims=1), tf.shape(images))


def _reflected(places: tf.Tensor, size: int) -> tf.Tensor:
    """Return places at most size - 1 outside of 0 … size - 1 mirrored at the edge that they passed."""
    import tensorflow as tf

    return size - 1 - tf.abs(size - 1 - tf.abs(places))
