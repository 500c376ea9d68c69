"""A copy of a network that trains faster: the same weights and functions, computed by other kernels.

docs/decisions.md explains them. After training, the weights are copied back to the network of plain Keras
layers, which is the one that is saved.
"""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from pipeline import machine
from pipeline.backbones.forward import convolution_matrix
from pipeline.networks import winograd

Gradient = Callable[[tf.Tensor], Any]  # from the upstream gradient to the gradients of the inputs

MIN_CHANNELS = 64  # of inputs and outputs; with fewer, the sums of Winograd cost more than the products
MAX_SIDE_WITH_AMX = 15  # pixels; AMX computes the products of larger maps faster than they are transformed


def fast_copy(model: keras.Model) -> keras.Model:
    """Return a copy of model to train in its place, with the same weights, names and frozen variables."""
    copy = keras.models.clone_model(
        model, clone_function=lambda layer: _fast_class(layer).from_config(layer.get_config())
    )
    copy.set_weights(model.get_weights())
    for copied, original in zip(copy.weights, model.weights, strict=True):
        copied.trainable = original.trainable
    return copy


def _fast_class(layer: keras.layers.Layer) -> type[keras.layers.Layer]:
    """Return the faster class for a layer, or its own class if there is none."""
    original = type(layer)
    if original is keras.layers.BatchNormalization and len(layer.input.shape) == 4:
        return FusedBatchNormalization
    if original is keras.layers.Conv2D and _is_slow(layer):
        return FastConv2D
    if original is keras.layers.MaxPooling2D and _halves(layer):
        return CompiledMaxPooling2D
    if original is keras.layers.Activation and layer.get_config()["activation"] == "gelu":
        return CompiledGelu
    return original


def _is_slow(layer: keras.layers.Conv2D) -> bool:
    """Return whether a faster class computes a convolution: on a CPU, 3x3, and with many channels."""
    plain = (layer.kernel_size, layer.strides, layer.dilation_rate) == ((3, 3), (1, 1), (1, 1))
    suitable = min(layer.input.shape[-1], layer.filters) >= MIN_CHANNELS and layer.groups == 1
    suitable = suitable and min(layer.input.shape[1:3]) > 1
    if layer.compute_dtype == "bfloat16" and machine.uses_amx():
        suitable = suitable and max(layer.input.shape[1:3]) <= MAX_SIDE_WITH_AMX
    return plain and suitable and layer.padding == "same" and layer.use_bias and not has_gpu()


def has_gpu() -> bool:
    """Return whether TensorFlow computes on a GPU, whose own convolutions are faster."""
    return bool(tf.config.list_physical_devices("GPU"))


def _halves(layer: keras.layers.MaxPooling2D) -> bool:
    """Return whether a pool is 2x2 without overlap and covers the map exactly."""
    _, height, width, _ = layer.input.shape
    return tuple(layer.pool_size) == tuple(layer.strides) == (2, 2) and height % 2 == width % 2 == 0


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization of (B, H, W, C) that trains with TensorFlow's fused operation."""

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        normalized, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1 - self.momentum) * batch)
        return normalized


class CompiledGelu(keras.layers.Activation):
    """The exact GELU, with forward and backward passes fused by XLA."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _gelu(inputs)


class FastConv2D(keras.layers.Conv2D):
    """A 3x3 convolution that trains by Winograd's algorithm, or on 2x2 maps by one matrix product.

    Evaluation uses TensorFlow's own convolution, as the saved network does, except on 2x2 maps.
    """

    def __init__(self, **settings: Any):
        super().__init__(**settings, autocast=False)  # kernels are transformed in float32

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x, kernel = tf.cast(inputs, self.compute_dtype), tf.convert_to_tensor(self.kernel)
        if x.shape[1:3] == (2, 2):
            y = _convolve_2x2(x, tf.cast(kernel, x.dtype))
        elif not training or x.shape[0] is None:  # XLA would compile for each number of images
            y = tf.nn.conv2d(x, tf.cast(kernel, x.dtype), strides=1, padding="SAME")
        else:
            y = winograd.convolve(x, kernel)
        return self.activation(tf.nn.bias_add(y, tf.cast(self.bias, y.dtype)))


class CompiledMaxPooling2D(keras.layers.MaxPooling2D):
    """2x2 max pooling with a backward pass fused by XLA."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _max_pool(inputs)


@tf.function(jit_compile=True)
def _gelu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.gelu(x, approximate=False)


@tf.custom_gradient
def _convolve_2x2(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Convolve maps (B, 2, 2, in) with a kernel (3, 3, in, out), padded to keep the size: one product."""
    channels, filters = kernel.shape[2:]
    matrix = convolution_matrix(kernel, side=2)
    rows = tf.reshape(inputs, (-1, 4 * channels))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        flat = tf.reshape(upstream, (-1, 4 * filters))
        d_inputs = tf.reshape(tf.matmul(flat, matrix, transpose_b=True), tf.shape(inputs))
        d_matrix = tf.matmul(rows, flat, transpose_a=True)
        return d_inputs, _fold(tf.reshape(d_matrix, (2, 2, channels, 2, 2, filters)))

    return tf.reshape(tf.matmul(rows, matrix), (-1, 2, 2, filters)), gradient


@tf.function(jit_compile=True, autograph=False)
def _fold(d_matrix: tf.Tensor) -> tf.Tensor:
    """Sum the parts of the matrix's gradient that belong to the same weight of the kernel."""
    parts: dict[tuple[int, int], list[tf.Tensor]] = {}
    for from_row, from_column, to_row, to_column in itertools.product(range(2), repeat=4):
        position = from_row - to_row + 1, from_column - to_column + 1
        part = tf.cast(d_matrix[from_row, from_column, :, to_row, to_column], tf.float32)
        parts.setdefault(position, []).append(part)
    sums = [[tf.add_n(parts[row, column]) for column in range(3)] for row in range(3)]
    return tf.cast(tf.stack([tf.stack(row) for row in sums]), d_matrix.dtype)


@tf.custom_gradient
def _max_pool(inputs: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Max-pool maps (B, H, W, C) by 2x2; among equal pixels the first gets the gradient."""
    pooled = tf.nn.max_pool2d(inputs, 2, 2, "VALID")
    return pooled, lambda upstream: _unpool(inputs, pooled, upstream)


@tf.function(jit_compile=True, autograph=False)
def _unpool(inputs: tf.Tensor, pooled: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    count, (height, width, channels) = tf.shape(inputs)[0], inputs.shape[1:]
    pixels = tf.reshape(inputs, (count, height // 2, 2, width // 2, 2, channels))
    free, rows = tf.ones_like(pooled, tf.bool), []
    for down in range(2):
        row = []
        for right in range(2):
            hit = free & (pixels[:, :, down, :, right] == pooled)
            free &= ~hit
            row.append(tf.where(hit, upstream, tf.zeros_like(upstream)))
        rows.append(tf.stack(row, axis=3))
    return tf.reshape(tf.stack(rows, axis=2), tf.shape(inputs))
