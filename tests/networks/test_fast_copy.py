"""A fast copy has the same weights, outputs and gradients as the network it replaces during training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.networks.fast_copy import fast_copy

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    monkeypatch.setattr("pipeline.networks.fast_copy.has_gpu", lambda: False)


def gradients(model: keras.Model, inputs: np.ndarray, upstream: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of the inputs and of each weight, given that of the output."""
    images = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(model(images, training=True) * upstream)
    sources = [images, *(weight.value for weight in model.trainable_variables)]
    return [gradient.numpy() for gradient in tape.gradient(loss, sources)]


def network(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.Model:
    pixels = keras.Input(shape)
    return keras.Model(pixels, layer(pixels))


@pytest.mark.parametrize(
    ("side", "channels", "filters"),
    [
        (2, 128, 64),
        (7, 64, 64),
        *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((4, 96, 64), (8, 64, 72), (10, 64, 64))),
    ],
)
@pytest.mark.parametrize("activation", ["relu", pytest.param(None, marks=pytest.mark.slow)])
def test_a_wide_convolution_has_the_same_gradients(side, channels, filters, activation):
    layer = keras.layers.Conv2D(filters, 3, padding="same", activation=activation, name="conv")
    model = network(layer, (side, side, channels))
    copy = fast_copy(model)
    assert type(copy.get_layer("conv")).__name__ == "FastConv2D"
    inputs = RNG.normal(size=(5, side, side, channels)).astype(np.float32)
    upstream = RNG.normal(size=(5, side, side, filters)).astype(np.float32)
    np.testing.assert_allclose(copy(inputs), model(inputs), rtol=1e-4, atol=1e-4)
    pairs = zip(gradients(copy, inputs, upstream), gradients(model, inputs, upstream), strict=True)
    for copied, original in pairs:
        np.testing.assert_allclose(copied, original, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_in_bfloat16_gradients_differ_from_float32_by_about_one_and_a_half_percent():
    inputs = RNG.normal(size=(4, 6, 8, 96)).astype(np.float32)  # neither square nor multiples of a tile
    upstream = RNG.normal(size=(4, 6, 8, 64)).astype(np.float32)
    exact = network(keras.layers.Conv2D(64, 3, padding="same"), (6, 8, 96))
    rounded = network(keras.layers.Conv2D(64, 3, padding="same", dtype="mixed_bfloat16"), (6, 8, 96))
    rounded.set_weights(exact.get_weights())
    copy = fast_copy(rounded)
    assert [weight.dtype for weight in copy.trainable_variables] == ["float32", "float32"]
    pairs = zip(gradients(copy, inputs, upstream), gradients(exact, inputs, upstream), strict=True)
    errors = [np.sqrt(((one - other) ** 2).mean() / (other**2).mean()) for one, other in pairs]
    assert max(errors) < 0.025


@pytest.mark.parametrize("count", [1, 5])
def test_evaluation_is_that_of_keras_and_does_not_depend_on_the_batch(count):
    model = network(keras.layers.Conv2D(64, 3, padding="same"), (8, 8, 64))
    copy, inputs = fast_copy(model), RNG.normal(size=(5, 8, 8, 64)).astype(np.float32)
    expected = model(inputs, training=False).numpy()
    outputs = [copy(inputs[start : start + count], training=False) for start in range(0, 5, count)]
    np.testing.assert_array_equal(np.concatenate(outputs), expected)


@pytest.mark.parametrize(
    ("side", "precision", "isa", "expected"),
    [
        (16, "mixed_bfloat16", "DEFAULT", "Conv2D"),
        (15, "mixed_bfloat16", "DEFAULT", "FastConv2D"),
        (16, "float32", "DEFAULT", "FastConv2D"),
        (16, "mixed_bfloat16", "AVX512_CORE_BF16", "FastConv2D"),
    ],
)
def test_with_amx_wide_convolutions_of_large_maps_in_bfloat16_stay_direct(
    monkeypatch, side, precision, isa, expected
):
    monkeypatch.setattr("pipeline.machine.cpu_flags", lambda: {"amx_bf16", "avx512_bf16"})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    layer = keras.layers.Conv2D(64, 3, padding="same", dtype=precision, name="conv")
    copy = fast_copy(network(layer, (side, side, 64)))
    assert type(copy.get_layer("conv")).__name__ == expected


@pytest.mark.parametrize(
    "changes",
    [
        *({"strides": 2}, {"padding": "valid"}, {"dilation_rate": 2}, {"kernel_size": 1}),
        *({"use_bias": False}, {"groups": 2}, {"filters": 63}),
    ],
    ids=str,
)
def test_other_convolutions_are_not_replaced(changes):
    settings = {"filters": 64, "kernel_size": 3, "padding": "same", "name": "conv", **changes}
    copy = fast_copy(network(keras.layers.Conv2D(**settings), (8, 8, 128)))
    assert type(copy.get_layer("conv")) is keras.layers.Conv2D


def test_a_max_pool_has_the_same_gradient_when_pixels_are_equal():
    model = network(keras.layers.MaxPooling2D(2, name="pool"), (4, 6, 3))
    copy = fast_copy(model)
    assert type(copy.get_layer("pool")).__name__ == "CompiledMaxPooling2D"
    inputs = RNG.integers(0, 3, (7, 4, 6, 3)).astype(np.float32)
    upstream = RNG.normal(size=(7, 2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(copy(inputs), model(inputs))
    (copied,), (original,) = gradients(copy, inputs, upstream), gradients(model, inputs, upstream)
    np.testing.assert_array_equal(copied, original)


@pytest.mark.parametrize(("shape", "size"), [((5, 5, 3), 2), ((6, 6, 3), 3)])
def test_other_max_pools_are_not_replaced(shape, size):
    copy = fast_copy(network(keras.layers.MaxPooling2D(size, name="pool"), shape))
    assert type(copy.get_layer("pool")) is keras.layers.MaxPooling2D


def test_frozen_layers_are_frozen_in_the_copy():
    layer = keras.layers.Conv2D(64, 3, padding="same", name="conv")
    model = network(layer, (4, 4, 128))
    layer.trainable = False
    copy = fast_copy(model)
    assert type(copy.get_layer("conv")).__name__ == "FastConv2D"
    assert copy.trainable_variables == []
