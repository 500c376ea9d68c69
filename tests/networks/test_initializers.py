"""Initializers do what their names say, and copies and view averages compute the right values."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from pipeline.features.passes import apply_view
from pipeline.networks.build import average_over_views
from pipeline.networks.fast_copy import fast_copy
from pipeline.networks.initializers import dirac, whitening_kernel


@pytest.fixture
def network() -> keras.Model:
    """A small network with convolution, normalization and GELU that outputs probabilities."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    pixels = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.BatchNormalization(momentum=0.6)(x)
    x = keras.layers.Activation("gelu")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)


def test_a_dirac_convolution_returns_its_input():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32)
    identity = dirac(kernel)
    images = np.random.default_rng(1).normal(size=(1, 6, 6, 2)).astype(np.float32)
    outputs = keras.ops.convert_to_numpy(keras.ops.conv(images, identity, padding="same"))
    np.testing.assert_allclose(outputs[..., :2], images, atol=1e-6)
    np.testing.assert_array_equal(identity[..., 2:], kernel[..., 2:])


def test_whitened_patches_have_identity_covariance():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(400, 6, 6, 3)).cumsum(axis=2).astype(np.float32)
    kernel = whitening_kernel(images)
    assert kernel.shape == (2, 2, 3, 24)
    outputs = keras.ops.convert_to_numpy(keras.ops.conv(images, kernel, padding="valid"))
    white = outputs[..., :12].reshape(-1, 12)
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(12), atol=0.02)
    np.testing.assert_allclose(outputs[..., 12:], -outputs[..., :12], atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_a_fast_copy_computes_the_same_as_the_original(network, images, training):
    copy = fast_copy(network)
    expected, actual = network(images, training=training), copy(images, training=training)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    for copied, original in zip(copy.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(copied, original, rtol=2e-3, atol=1e-5)  # variance of n, not of n - 1


def test_probabilities_are_averaged_over_views(network, images, tmp_path):
    views = ("identity", "hflip", "left1+up1", "hflip+right2")
    average_over_views(network, views).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = np.mean([network(apply_view(images, view)) for view in views], axis=0)
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)
