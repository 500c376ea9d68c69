"""The notation builds the same VGG16 as keras.applications, with activations where documented."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest

from pipeline.backbones.model import load_arrays
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import random_arrays
from pipeline.networks.build import LAYERS, add_block, add_classifier, add_neck
from pipeline.notation import WORDS, Word, parse_block, parse_blocks
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.training.classifier import Classifier

VGG16_CONVOLUTIONS = 14_714_688  # keras.applications.VGG16(include_top=False).count_params()


def trunk(text: str, filters: tuple[int, ...]) -> keras.Model:
    """Return only the conv blocks: 32 px float images in, the last feature map out."""
    images = keras.Input((32, 32, 3))
    x = images
    for number, block in enumerate(parse_blocks(text, len(filters), dense=False), start=1):
        x = add_block(x, block, name=f"block{number}", width=filters[number - 1], dropout=0.2)
    return keras.Model(images, x)


def dense_block(text: str, *, dropout: float = 0.5) -> keras.Model:
    features = keras.Input((6,))
    return keras.Model(
        features, add_block(features, parse_block(text, dense=True), name="dense1", width=4, dropout=dropout)
    )


def activations(model: keras.Model) -> dict[str, str]:
    """Return the activation of each layer that has one, by layer name."""
    return {
        layer.name: keras.activations.serialize(layer.activation)
        for layer in model.layers
        if hasattr(layer, "activation")
    }


@pytest.fixture(scope="module")
def notation_vgg16() -> keras.Model:
    """VGG16 without its top, from the notation."""
    recipe = SCRATCH_RECIPES["vgg16"]
    return trunk(recipe.conv_blocks, recipe.filters)


@pytest.fixture(scope="module")
def keras_vgg16() -> keras.Model:
    """VGG16 without its top, from Keras."""
    return keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))


@pytest.fixture
def bfloat16() -> Iterator[None]:
    """Switch Keras to mixed precision during a test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_the_notations_vgg16_has_as_many_parameters_as_kerass(notation_vgg16, keras_vgg16):
    assert notation_vgg16.count_params() == keras_vgg16.count_params() == VGG16_CONVOLUTIONS


def test_the_notations_vgg16_has_the_layer_names_of_kerass(notation_vgg16, keras_vgg16):
    ours, theirs = ([layer.name for layer in model.layers[1:]] for model in (notation_vgg16, keras_vgg16))
    assert ours == theirs


def test_the_notations_vgg16_computes_the_same_as_kerass_with_the_same_weights(notation_vgg16, keras_vgg16):
    arrays = random_arrays(BACKBONES["vgg16"], seed=0)
    for model in (notation_vgg16, keras_vgg16):
        load_arrays(model, arrays)
    images = np.random.default_rng(0).normal(scale=60, size=(2, 32, 32, 3)).astype(np.float32)
    ours, theirs = (model(images, training=False).numpy() for model in (notation_vgg16, keras_vgg16))
    assert ours.shape == (2, 1, 1, 512)
    assert theirs.std() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


def test_a_relu_follows_every_conv_and_dense_layer_if_no_activation_is_named():
    assert activations(trunk("conv - batch norm - conv - maxpool - dropout", (4,))) == {
        "block1_conv1": "relu",
        "block1_conv2": "relu",
    }
    assert activations(dense_block("dense - batch norm")) == {"dense1_dense1": "relu"}


def test_activations_are_exactly_where_they_are_named():
    assert activations(trunk("conv - batch norm - relu - conv - maxpool", (4,))) == {
        "block1_conv1": "linear",
        "block1_activation1": "relu",
        "block1_conv2": "linear",
    }
    assert activations(dense_block("dense - batch norm - gelu")) == {
        "dense1_dense1": "linear",
        "dense1_activation1": "gelu",
    }


def test_naming_an_activation_in_one_block_does_not_affect_the_others():
    expected = {"block1_conv1": "linear", "block1_activation1": "gelu", "block2_conv1": "relu"}
    assert activations(trunk("conv - gelu | conv", (4, 4))) == expected


def test_arguments_and_defaults_reach_the_layers():
    model = trunk("conv 5x5 - conv - maxpool - avgpool 4 - dropout 0.4 - dropout", (7,))
    layers = {layer.name: layer for layer in model.layers}
    assert layers["block1_conv1"].kernel_size == (5, 5)
    assert layers["block1_conv2"].kernel_size == (3, 3)
    assert layers["block1_conv2"].filters == 7
    assert layers["block1_pool"].pool_size == (2, 2)
    assert layers["block1_pool2"].pool_size == (4, 4)
    assert layers["block1_dropout1"].rate == 0.4
    assert layers["block1_dropout2"].rate == 0.2
    assert model.output_shape == (None, 4, 4, 7)  # convolutions keep the size, pools divide it by 2 * 4


def test_the_necks_keep_or_drop_positions():
    maps = keras.Input((2, 3, 5))
    assert add_neck(maps, "flatten").shape == (None, 30)
    assert add_neck(maps, "average").shape == (None, 5)


def test_logits_and_probabilities_are_float32_under_mixed_precision(bfloat16):
    features = keras.Input((6,))
    x = add_block(features, parse_block("dense", dense=True), name="dense1", width=4, dropout=0.5)
    model = keras.Model(features, add_classifier(x, 3))
    assert model.get_layer("dense1_dense1").compute_dtype == "bfloat16"
    assert Classifier(model).logits.output.dtype == model.output.dtype == "float32"
    probabilities = model(np.ones((2, 6), np.float32)).numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_the_logits_model_shares_weights_with_the_classifier():
    features = keras.Input((6,))
    model = keras.Model(features, add_classifier(features, 3))
    logits = Classifier(model).logits
    model.get_layer("logits").kernel.assign(np.full((6, 3), 0.5))
    inputs = np.ones((1, 6), np.float32)
    np.testing.assert_allclose(logits(inputs), [[3.0] * 3])
    np.testing.assert_allclose(model(inputs), [[1 / 3] * 3], rtol=1e-6)


def test_a_new_word_builds(monkeypatch):
    def noise(spec, name, **_):
        return keras.layers.GaussianNoise(spec.rate, name=name)

    monkeypatch.setitem(WORDS, "noise", Word("noise", "noise", argument="rate"))
    monkeypatch.setitem(LAYERS, "noise", noise)
    model = trunk("conv - noise 0.3 - maxpool", (4,))
    assert model.get_layer("block1_noise1").stddev == 0.3
