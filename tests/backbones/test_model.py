"""The backbone with its preprocessing computes what keras.applications computes."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.backbones.model import build_backbone, load_arrays
from pipeline.backbones.table import BACKBONES
from pipeline.errors import BadInput

VGG16 = BACKBONES["vgg16"]


@pytest.fixture(scope="module")
def network(arrays):
    import keras

    keras.config.set_dtype_policy("float32")
    return build_backbone(VGG16, arrays, input_size=32)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def test_features_of_raw_pixels_match_keras_applications(network, arrays, images):
    import keras

    reference = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    for layer, pair in arrays.items():
        reference.get_layer(layer).set_weights(pair)
    preprocessed = keras.applications.vgg16.preprocess_input(images.astype(np.float32))
    for tap in VGG16.taps:
        actual = keras.Model(network.input, network.get_layer(tap).output)(images)
        expected = keras.Model(reference.input, reference.get_layer(tap).output)(preprocessed)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3 * float(np.abs(expected).max()))


def test_input_images_are_not_modified(network, images):
    before = images.copy()
    network(images)
    assert (images == before).all()


def test_layers_have_the_names_of_the_table(network):
    names = {layer.name for layer in network.layers}
    assert {*VGG16.taps, *VGG16.shapes()} <= names
    assert network.input_shape == (None, 32, 32, 3)
    assert network.input.dtype == "uint8"
    assert network.count_params() == 14_714_688


def test_images_that_are_too_small_are_an_error():
    with pytest.raises(BadInput, match="VGG16: expected images of 32 px or more, received 16"):
        build_backbone(VGG16, {}, input_size=16)


def test_weights_of_a_missing_layer_are_an_error(network, arrays):
    with pytest.raises(ValueError, match="No such layer: block6_conv1"):
        load_arrays(network, {"block6_conv1": arrays["block1_conv1"]})
