"""The forward pass of a frozen backbone. For a VGG, each convolution uses its fastest algorithm on CPUs.

A 3x3 convolution with zero padding is computed in one of three ways that agree to within rounding:

- direct: oneDNN's convolution, bias and ReLU in one operation;
- winograd: tiles of 4x4 or 2x2 outputs with a quarter or four ninths of the products (winograd.py);
  faster if there are many channels;
- dense: on a 2x2 map, one matrix product that skips the zeros of the padding.

Other backbones are Keras's own networks compiled into one graph.
"""

import functools
import itertools

import numpy as np
import tensorflow as tf

from pipeline.backbones.algorithms import AMX_WINOGRAD_SIDE, algorithm, winograd_tile
from pipeline.backbones.engines import PassSpec
from pipeline.backbones.model import keras_taps
from pipeline.backbones.steps import Forward
from pipeline.backbones.table import Backbone
from pipeline.backbones.weights import Arrays
from pipeline.backbones.winograd import convolve, fused, transformed_kernel
from pipeline.machine import usable_cores


def passes_at_once() -> int:
    """Return the number of passes that run at once: one per core, or one on a GPU."""
    return 1 if tf.config.list_physical_devices("GPU") else usable_cores()


def forward_function(row: Backbone, arrays: Arrays, spec: PassSpec, winograd_side: int = 0) -> Forward:
    """Return a thread-safe function from the images of a pass to its arrays; raise BadInput for a size.

    winograd_side limits the maps that Winograd's algorithm is used for (see algorithms.algorithm).
    """
    row.check_size(spec.input_size)
    dtype, maps_dtype = tf.as_dtype(spec.precision), tf.as_dtype(spec.maps_dtype)
    layers = [layer for layer in row.layers if layer in dict(spec.taps)]
    network = None if row.chain else keras_taps(row, arrays, spec.input_size, layers, spec.precision)
    signature = [tf.TensorSpec((spec.batch_size, spec.image_size, spec.image_size, 3), tf.uint8)]

    @tf.function(input_signature=signature, autograph=False)
    def forward(images: tf.Tensor) -> list[tf.Tensor]:
        x = tf.cast(images, tf.float32)
        if spec.input_size != spec.image_size:
            x = tf.image.resize(x, (spec.input_size, spec.input_size), "bilinear", antialias=True)
        x -= tf.constant(row.subtract)
        x = x / tf.constant(row.divide) if set(row.divide) != {1.0} else x
        preprocessed = tf.reverse(x, [-1]) if row.flip_channels else x
        if network is None:
            maps = _maps(tf.cast(preprocessed, dtype), row, arrays, layers, winograd_side)
        else:  # Keras does not always wrap a single output in a list
            maps = dict(zip(layers, tf.nest.flatten(network(preprocessed, training=False)), strict=True))
        return [
            _average(maps[layer]) if pooling == "average" else _cast(maps[layer], maps_dtype)
            for layer, pooling in spec.taps
        ]

    compute = forward.get_concrete_function()
    # Views of TensorFlow's memory, because numpy() copies: half of what it costs to store maps.
    return lambda images: [np.asarray(memoryview(values.cpu())) for values in compute(tf.constant(images))]


# With the algorithms that are fastest on processors with AMX.
forward_function_for_amx = functools.partial(forward_function, winograd_side=AMX_WINOGRAD_SIDE)


def _maps(
    x: tf.Tensor, row: Backbone, arrays: Arrays, layers: list[str], winograd_side: int
) -> dict[str, tf.Tensor]:
    """Return the outputs of layers for a batch of preprocessed images; stop after the deepest."""
    outputs: dict[str, tf.Tensor] = {}
    for step, after in itertools.pairwise(row.steps):
        if step.kind == "conv":
            kernel, bias = arrays[step.name]
            compute = ALGORITHMS[algorithm(x.shape[1], kernel.shape[3], winograd_side)]
            x = outputs[after.name] = compute(x, kernel, bias, after.kind == "pool")
        if layers[-1] in outputs:
            break
    return outputs


@fused
def _average(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(x, tf.float32), axis=(1, 2))


@fused
def _cast(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(x, dtype)


def _direct(x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray, pool: bool) -> tf.Tensor:
    product = tf.nn.conv2d(x, _constant(kernel, x.dtype), strides=1, padding="SAME")
    return _pooled(tf.nn.relu(tf.nn.bias_add(product, tf.constant(bias, x.dtype))), pool)


def _dense(x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray, pool: bool) -> tf.Tensor:
    with tf.init_scope():  # see _constant
        matrix = tf.cast(convolution_matrix(kernel, x.shape[1]), x.dtype)
    product = tf.matmul(tf.reshape(x, (x.shape[0], matrix.shape[0])), matrix)
    biased = tf.nn.bias_add(product, tf.constant(np.tile(bias, x.shape[1] ** 2), x.dtype))
    return _pooled(tf.reshape(tf.nn.relu(biased), (*x.shape[:3], bias.size)), pool)


def _winograd(x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray, pool: bool) -> tf.Tensor:
    tile = winograd_tile(x.shape[1])
    with tf.init_scope():  # see _constant; a cast in TensorFlow is faster than NumPy's
        factors = tf.unstack(tf.cast(transformed_kernel(kernel, tile), x.dtype))
    return convolve(x, factors, bias, tile, pool=pool)


def _pooled(x: tf.Tensor, pool: bool) -> tf.Tensor:
    return tf.nn.max_pool2d(x, 2, 2, "VALID") if pool else x


def convolution_matrix(kernel: tf.Tensor, side: int) -> tf.Tensor:
    """Return the matrix (side·side·in, side·side·out) of a zero-padded 3x3 convolution of a square map."""
    zeros, positions = tf.zeros_like(kernel[0, 0]), list(itertools.product(range(side), repeat=2))

    def weights(down: int, right: int) -> tf.Tensor:
        return kernel[down + 1, right + 1] if max(abs(down), abs(right)) <= 1 else zeros

    rows = [
        tf.stack([weights(row - to_row, column - to_column) for to_row, to_column in positions], axis=1)
        for row, column in positions
    ]
    return tf.reshape(tf.stack(rows), [side * side * channels for channels in kernel.shape[2:]])


def _constant(values: np.ndarray, dtype: tf.DType) -> tf.Tensor:
    """Return values as a tensor outside the graph; TensorFlow keeps several copies of one inside it."""
    with tf.init_scope():
        return tf.constant(values, dtype)


ALGORITHMS = {"direct": _direct, "winograd": _winograd, "dense": _dense}
