"""Random augmentation in the training loop, determined by the seed and the step number."""

import tensorflow as tf


def augment(
    images: tf.Tensor, seed: tf.Tensor, *, flip: bool, shift: int, flipped: tf.Tensor | None = None
) -> tf.Tensor:
    """Return images (B, H, W, C) uint8, each flipped with probability 1/2 and shifted by up to shift pixels.

    seed is (2,) int32 and stateless: the same seed gives the same augmentation. A shift fills the border by
    reflection. flipped (B,) bool says which images to flip instead of drawing them.
    """
    if not (flip or shift):
        return images
    count, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    flipped, offset = _draw(count, seed, flip=flip, shift=shift, flipped=flipped)
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    if shift:
        rows, columns = _reflect(rows + offset[:, :1], height), _reflect(columns + offset[:, 1:], width)
    if flip:
        columns = tf.where(flipped[:, None], width - 1 - columns, columns)
    # One gather per pixel; flipping and shifting separately would make three more copies.
    pixels = tf.reshape(rows[:, :, None] * width + columns[:, None, :], (count, height * width))
    flat = tf.reshape(images, (count, height * width, channels))
    return tf.reshape(tf.gather(flat, pixels, axis=1, batch_dims=1), tf.shape(images))


def draw_views(
    count: tf.Tensor, seed: tf.Tensor, *, flip: bool, shift: int, flipped: tf.Tensor | None = None
) -> tf.Tensor:
    """Return positions (count,) int32 in augmentation_views of what `augment` does with the same seed."""
    flipped, offset = _draw(count, seed, flip=flip, shift=shift, flipped=flipped)
    span = 2 * shift + 1
    down, right = offset[:, 0] % span, offset[:, 1] % span
    return (tf.cast(flipped, tf.int32) * span + down) * span + right


def mix_pairs(
    inputs: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return inputs (B, …) and targets (B, C) float32, each mixed with those of another example of the batch.

    The share of the example itself is max(s, 1 - s) with s from Beta(alpha, alpha): mixup (Zhang et al.
    2018, "mixup: Beyond Empirical Risk Minimization"), which Verma et al. (2019, "Manifold Mixup") apply
    to the maps inside a network. seed is (2,) int32: the same seed gives the same shares. alpha is positive.
    """
    seeds = tf.random.split(seed, 2)
    first, second = (tf.random.stateless_gamma(targets.shape[:1], seeds[number], alpha) for number in (0, 1))
    share = tf.maximum(first, second) / tf.maximum(first + second, 1e-30)

    def mixed(values: tf.Tensor) -> tf.Tensor:
        values = tf.cast(values, tf.float32)
        shares = tf.reshape(share, (-1, *[1] * (values.shape.rank - 1)))
        return shares * values + (1 - shares) * values[::-1]

    return mixed(inputs), mixed(targets)


def _draw(
    count: tf.Tensor, seed: tf.Tensor, *, flip: bool, shift: int, flipped: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which of count images are flipped, and the offset (count, 2) of each, down and to the right."""
    offset = tf.zeros((count, 2), tf.int32)
    if shift:
        shift_seed = seed + tf.constant([0, 1], seed.dtype)
        draws = tf.random.stateless_uniform((count, 2), shift_seed, maxval=2 * shift + 1, dtype=tf.int32)
        offset = draws - shift
    if not flip:
        flipped = tf.zeros((count,), tf.bool)
    elif flipped is None:
        flipped = tf.random.stateless_uniform((count,), seed) < 0.5
    return flipped, offset


def _reflect(positions: tf.Tensor, size: int) -> tf.Tensor:
    """Return positions reflected into 0 … size - 1; they may lie at most size - 1 outside."""
    return size - 1 - tf.abs(size - 1 - tf.abs(positions))
