"""Every row of BACKBONES matches the network that Keras builds: names, shapes, preprocessing, features."""

from __future__ import annotations

import importlib
import inspect

import h5py
import numpy as np
import pytest

from pipeline.backbones.engines import PassSpec
from pipeline.backbones.forward import forward_function
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES, WEIGHTS, Backbone
from pipeline.backbones.weights import publish_weights, random_arrays, read_keras_notop, read_weights
from pipeline.schemes.fine_tune import blocks_of

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
ROWS = list(BACKBONES.values())
rows = pytest.mark.parametrize("row", ROWS, ids=list(BACKBONES))


def nonzero_weights(row: Backbone) -> dict:
    """Return random weights, all of which differ from a layer's initial values."""
    generator = np.random.default_rng(1)
    arrays = {}
    for layer, weights in random_arrays(row, seed=0).items():
        kernels = weights[0].ndim == 4
        arrays[layer] = weights[:1] if kernels else ()
        for values in weights[kernels:]:
            arrays[layer] += (generator.uniform(0.5, 1.0, values.shape).astype(np.float32),)
    return arrays


@pytest.fixture(scope="module", params=ROWS, ids=list(BACKBONES))
def network(request):
    """A row, its weights, and Keras's network with these weights, which takes pixels."""
    arrays = nonzero_weights(request.param)
    return request.param, arrays, build_backbone(request.param, arrays, input_size=32)


def test_layers_and_shapes_match_keras(network):
    row, _, model = network
    shapes = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers}
    weighted = {name: shape for name, shape in shapes.items() if shape}
    assert weighted == {name: list(weights.values()) for name, weights in row.shapes().items()}


def test_every_layer_with_weights_is_in_one_block_and_blocks_end_in_their_taps(network):
    row, arrays, model = network
    names = [layer.name for layer in model.layers]
    ends = [names.index(tap) for tap in row.taps]
    blocks = {layer.name: block for layer, block in blocks_of(model, row).items()}
    for layer in arrays:
        block = blocks[layer]
        assert names.index(layer) < ends[block - 1], layer
        assert block == 1 or names.index(layer) > ends[block - 2], layer
    assert set(blocks.values()) == {1, 2, 3, 4, 5}


@rows
@pytest.mark.parametrize("size", [33, *(pytest.param(size, marks=pytest.mark.slow) for size in (32, 47, 64))])
def test_map_shape_matches_keras(row, size):
    import keras

    application = getattr(keras.applications, row.application)
    model = application(include_top=False, weights=None, input_shape=(size, size, 3))
    for tap in row.taps:
        assert row.map_shape(tap, size) == model.get_layer(tap).output.shape[1:]


@pytest.mark.slow
@rows
def test_multiply_adds_match_keras(row):
    import keras

    model = getattr(keras.applications, row.application)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    expected = sum(
        layer.output.shape[1] * layer.output.shape[2] * int(np.prod(layer.kernel.shape))
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    )
    assert row.multiply_adds(row.taps[-1], 32) == expected


@rows
def test_preprocessing_and_digests_match_keras(row):
    module = importlib.import_module(f"keras.src.applications.{row.name.replace('50', '')}")
    pixels = np.full((1, 2, 2, 3), (200.0, 100.0, 50.0), np.float32)
    preprocessed = pixels - np.float32(row.subtract)
    preprocessed = preprocessed[..., ::-1] if row.flip_channels else preprocessed
    np.testing.assert_allclose(preprocessed, module.preprocess_input(pixels.copy()), atol=1e-4)
    assert WEIGHTS[row.name, "imagenet"].downloads[0].removeprefix("md5:") in inspect.getsource(module)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), pytest.param("bfloat16", 0.04, marks=pytest.mark.slow)]
)
def test_features_match_keras_within_the_precision(network, precision, tolerance):
    import keras

    row, arrays, model = network
    reference = keras.Model(model.input, [model.get_layer(tap).output for tap in row.taps])(IMAGES)
    options = {"image_size": 32, "input_size": 32, "batch_size": 3}
    for pooling in ("none", "average"):
        spec = PassSpec(taps=[(tap, pooling) for tap in row.taps], precision=precision, **options)
        compute = forward_function(row, arrays, spec)
        for features, maps in zip(compute(IMAGES), reference, strict=True):
            expected = maps.numpy() if pooling == "none" else maps.numpy().mean((1, 2))
            assert features.dtype == np.float32
            assert np.linalg.norm(features - expected) < tolerance * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["none", "average"])
def test_single_layer_of_resnet50_equals_the_same_layer_of_two(pooling):
    row = BACKBONES["resnet50"]
    arrays, tap = nonzero_weights(row), row.taps[1]
    options = {
        "image_size": 32,
        "input_size": 32,
        "precision": "float32",
        "batch_size": 3,
    }
    one, two = [(tap, pooling)], [(row.taps[0], pooling), (tap, pooling)]
    (alone,) = forward_function(row, arrays, PassSpec(taps=one, **options))(IMAGES)
    _, joined = forward_function(row, arrays, PassSpec(taps=two, **options))(IMAGES)
    np.testing.assert_allclose(alone, joined, rtol=1e-4, atol=1e-4)


def test_published_weights_are_read_back(network, tmp_path):
    row, arrays, _ = network
    publish_weights(tmp_path, {"backbone": row.name}, arrays, {})
    read = read_weights(tmp_path)
    assert list(read) == list(arrays)
    assert all(np.array_equal(a, b) for name in arrays for a, b in zip(read[name], arrays[name], strict=True))


def test_file_in_keras_published_layout_is_read(network, tmp_path):
    row, arrays, _ = network
    with h5py.File(tmp_path / "notop.h5", "w") as file:
        for layer, weights in arrays.items():
            for name, values in zip(row.shapes()[layer], weights, strict=True):
                file[f"{layer}/{layer}/{name}:0"] = values
    read = read_keras_notop(tmp_path / "notop.h5", row)
    assert all(np.array_equal(a, b) for name in arrays for a, b in zip(read[name], arrays[name], strict=True))
