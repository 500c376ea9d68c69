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

    if flip:
        if mirrored is None:
            mirrored = tf.random.stateless_uniform((tf.shape(images)[0],), seed) < 0.5
        images = tf.where(mirrored[:, None, None, None], tf.reverse(images, axis=[2]), images)
    if shift:
        images = _shifted(images, seed + tf.constant([0, 1], seed.dtype), shift)
    return images


def _shifted(images: tf.Tensor, seed: tf.Tensor, shift: int) -> tf.Tensor:
    import tensorflow as tf

    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    padded = tf.pad(images, [[0, 0], [shift, shift], [shift, shift], [0, 0]], mode="REFLECT")
    start = tf.random.stateless_uniform((count, 2), seed, maxval=2 * shift + 1, dtype=tf.int32)
    rows = tf.gather(padded, start[:, :1] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, start[:, 1:] + tf.range(width), axis=2, batch_dims=1)
