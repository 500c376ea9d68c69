"""A quick copy has the same weights, answers and gradients as the network that it is trained in place of."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.networks.fast_copy import quick_copy

RNG = np.random.default_rng(0)


def gradients(model: keras.Model, inputs: np.ndarray, above: np.ndarray) -> list[np.ndarray]:
    """Return what flows back to the inputs and to each weight, where above flows back from the output."""
    seen = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(seen)
        loss = tf.reduce_sum(model(seen, training=True) * above)
    found = tape.gradient(loss, [seen, *(weight.value for weight in model.trainable_variables)])
    return [values.numpy() for values in found]


def network(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.Model:
    pixels = keras.Input(shape)
    return keras.Model(pixels, layer(pixels))


@pytest.mark.parametrize(("side", "channels", "filters"), [(2, 128, 8), (4, 160, 24), (8, 128, 16)])
@pytest.mark.parametrize("activation", ["relu", None])
def test_a_wide_convolution_has_the_same_gradients(side, channels, filters, activation):
    layer = keras.layers.Conv2D(filters, 3, padding="same", activation=activation, name="conv")
    model = network(layer, (side, side, channels))
    copy = quick_copy(model)
    assert type(copy.get_layer("conv")).__name__ == "ProductsConvolution"
    inputs = RNG.normal(size=(5, side, side, channels)).astype(np.float32)
    above = RNG.normal(size=(5, side, side, filters)).astype(np.float32)
    np.testing.assert_allclose(copy(inputs), model(inputs), rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(gradients(copy, inputs, above), gradients(model, inputs, above), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [{"strides": 2}, {"padding": "valid"}, {"dilation_rate": 2}, {"kernel_size": 1}, {"use_bias": False}],
    ids=str,
)
def test_convolutions_of_another_kind_stay_as_they_are(changes):
    settings = {"kernel_size": 3, "padding": "same", "name": "conv", **changes}
    copy = quick_copy(network(keras.layers.Conv2D(8, **settings), (8, 8, 128)))
    assert type(copy.get_layer("conv")) is keras.layers.Conv2D


def test_a_maximum_has_the_same_gradient_where_pixels_are_equal():
    model = network(keras.layers.MaxPooling2D(2, name="pool"), (4, 6, 3))
    copy = quick_copy(model)
    assert type(copy.get_layer("pool")).__name__ == "CompiledMaximum"
    inputs = RNG.integers(0, 3, (7, 4, 6, 3)).astype(np.float32)
    above = RNG.normal(size=(7, 2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(copy(inputs), model(inputs))
    (mine,), (theirs,) = gradients(copy, inputs, above), gradients(model, inputs, above)
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("shape", "size"), [((5, 5, 3), 2), ((6, 6, 3), 3)])
def test_maxima_of_another_kind_stay_as_they_are(shape, size):
    copy = quick_copy(network(keras.layers.MaxPooling2D(size, name="pool"), shape))
    assert type(copy.get_layer("pool")) is keras.layers.MaxPooling2D


def test_what_is_frozen_stays_frozen_in_the_copy():
    layer = keras.layers.Conv2D(8, 3, padding="same", name="conv")
    model = network(layer, (4, 4, 128))
    layer.trainable = False
    copy = quick_copy(model)
    assert copy.trainable_variables == []
