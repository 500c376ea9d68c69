"""A copy of a network that trains faster: the same weights and functions, computed by other kernels.

docs/decisions.md says which and why. What is saved is the network of Keras's own layers, to which the weights
are copied back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Gradient = Callable[[tf.Tensor], Any]  # from what flows back to the gradients of the inputs

PRODUCTS_CHANNELS, PRODUCTS_SIDE = 128, 8  # from so many channels, up to so many pixels products are faster
CONVOLVED_SIDE = 4  # pixels; up to it a kernel's gradient is faster as a convolution


def quick_copy(model: keras.Model) -> keras.Model:
    """Return a copy of model to be trained in its place; weights, names and what is frozen are the same."""
    copy = keras.models.clone_model(
        model, clone_function=lambda layer: _kind(layer).from_config(layer.get_config())
    )
    copy.set_weights(model.get_weights())
    for mine, theirs in zip(copy.weights, model.weights, strict=True):
        mine.trainable = theirs.trainable
    return copy


def _kind(layer: keras.layers.Layer) -> type[keras.layers.Layer]:
    """Return the class of a layer's copy."""
    kind = type(layer)
    if kind is keras.layers.BatchNormalization and len(layer.input.shape) == 4:
        return FusedNormalization
    if kind is keras.layers.Conv2D and _is_plain(layer):
        return ProductsConvolution
    if kind is keras.layers.MaxPooling2D and _halves(layer):
        return CompiledMaximum
    if kind is keras.layers.Activation and layer.get_config()["activation"] == "gelu":
        return CompiledGelu
    return kind


def _is_plain(layer: keras.layers.Conv2D) -> bool:
    """Say whether a convolution is 3x3, keeps the size, and is wide on a map so small that products pay."""
    plain = (layer.kernel_size, layer.strides, layer.dilation_rate) == ((3, 3), (1, 1), (1, 1))
    _, height, width, channels = layer.input.shape
    small = max(height, width) <= PRODUCTS_SIDE and channels >= PRODUCTS_CHANNELS
    return plain and small and layer.padding == "same" and layer.groups == 1 and layer.use_bias


def _halves(layer: keras.layers.MaxPooling2D) -> bool:
    """Say whether a maximum is over 2x2 pixels, next to each other, that cover the whole map."""
    _, height, width, _ = layer.input.shape
    return tuple(layer.pool_size) == tuple(layer.strides) == (2, 2) and height % 2 == width % 2 == 0


class FusedNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over (B, H, W, C) that trains by TensorFlow's fused operation."""

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        found, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1 - self.momentum) * now)
        return found


class CompiledGelu(keras.layers.Activation):
    """The exact GELU, its forward and backward passes each fused by XLA."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _gelu(inputs)


class ProductsConvolution(keras.layers.Conv2D):
    """A 3x3 convolution whose kernel's gradient, and on four pixels the whole, takes other products."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = (tf.convert_to_tensor(weight) for weight in (self.kernel, self.bias))
        convolved = _on_four_pixels if inputs.shape[1:3] == (2, 2) else _convolution
        return self.activation(tf.nn.bias_add(convolved(inputs, kernel), bias))


class CompiledMaximum(keras.layers.MaxPooling2D):
    """The maximum of 2x2 pixels, its backward pass fused by XLA."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _maximum(inputs)


@tf.function(jit_compile=True)
def _gelu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.gelu(x, approximate=False)


@tf.custom_gradient
def _convolution(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Convolve maps (B, H, W, in) with a kernel (3, 3, in, out); the padding keeps the size."""

    def gradient(above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape, how = tf.shape(inputs), {"strides": [1, 1, 1, 1], "padding": "SAME"}
        back = tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=above, **how)
        small = max(inputs.shape[1:3]) <= CONVOLVED_SIDE
        return back, (_by_convolution if small else _by_products)(inputs, above)

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), gradient


@tf.custom_gradient
def _on_four_pixels(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Convolve maps (B, 2, 2, in) in the same way, by one matrix product."""
    channels, filters = kernel.shape[2:]
    matrix = tf.reshape(_matrix(kernel), (4 * channels, 4 * filters))
    rows = tf.reshape(inputs, (-1, 4 * channels))

    def gradient(above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        flat = tf.reshape(above, (-1, 4 * filters))
        back = tf.reshape(tf.matmul(flat, matrix, transpose_b=True), tf.shape(inputs))
        square = tf.matmul(rows, flat, transpose_a=True)
        return back, _folded(tf.reshape(square, (2, 2, channels, 2, 2, filters)))

    return tf.reshape(tf.matmul(rows, matrix), (-1, 2, 2, filters)), gradient


@tf.function(jit_compile=True, autograph=False)
def _folded(square: tf.Tensor) -> tf.Tensor:
    """Sum the parts of a matrix's gradient that are of the same weight of the kernel."""
    parts: dict[tuple[int, int], list[tf.Tensor]] = {}
    for from_row, from_column, to_row, to_column in itertools.product(range(2), repeat=4):
        place = from_row - to_row + 1, from_column - to_column + 1
        part = tf.cast(square[from_row, from_column, :, to_row, to_column], tf.float32)
        parts.setdefault(place, []).append(part)
    sums = [[tf.add_n(parts[row, column]) for column in range(3)] for row in range(3)]
    return tf.cast(tf.stack([tf.stack(row) for row in sums]), square.dtype)


def _by_products(inputs: tf.Tensor, above: tf.Tensor) -> tf.Tensor:
    """Return the gradient of a kernel as nine matrix products: quickest on large maps."""
    (height, width, channels), filters = inputs.shape[1:], above.shape[-1]
    padded = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
    rows = tf.reshape(above, (-1, filters))
    products = [
        tf.matmul(tf.reshape(part, (-1, channels)), rows, transpose_a=True)
        for down in range(3)
        for part in (padded[:, down : down + height, right : right + width] for right in range(3))
    ]
    return tf.reshape(tf.stack(products), (3, 3, channels, filters))


def _by_convolution(inputs: tf.Tensor, above: tf.Tensor) -> tf.Tensor:
    """Return it as a convolution, in which channels and images change places: quickest on small maps."""
    images, kernel = tf.transpose(inputs, (3, 1, 2, 0)), tf.transpose(above, (1, 2, 0, 3))
    found = tf.nn.conv2d(images, kernel, strides=1, padding=[[0, 0], [1, 1], [1, 1], [0, 0]])
    return tf.transpose(found, (1, 2, 0, 3))


def _matrix(kernel: tf.Tensor) -> tf.Tensor:
    """Return the convolution of a map of 2x2 pixels by a kernel (3, 3, in, out) as (4, in, 4, out)."""
    places = list(itertools.product(range(2), repeat=2))
    columns = [
        tf.stack([kernel[row - to_row + 1, column - to_column + 1] for to_row, to_column in places], axis=1)
        for row, column in places
    ]
    return tf.stack(columns)


@tf.custom_gradient
def _maximum(inputs: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Return the maxima of 2x2 pixels of maps (B, H, W, C); the first that has one learns."""
    largest = tf.nn.max_pool2d(inputs, 2, 2, "VALID")
    return largest, lambda above: _spread(inputs, largest, above)


@tf.function(jit_compile=True, autograph=False)
def _spread(inputs: tf.Tensor, largest: tf.Tensor, above: tf.Tensor) -> tf.Tensor:
    count, (height, width, channels) = tf.shape(inputs)[0], inputs.shape[1:]
    pixels = tf.reshape(inputs, (count, height // 2, 2, width // 2, 2, channels))
    free, rows = tf.ones_like(largest, tf.bool), []
    for down in range(2):
        row = []
        for right in range(2):
            hit = free & (pixels[:, :, down, :, right] == largest)
            free &= ~hit
            row.append(tf.where(hit, above, tf.zeros_like(above)))
        rows.append(tf.stack(row, axis=3))
    return tf.reshape(tf.stack(rows, axis=2), tf.shape(inputs))
