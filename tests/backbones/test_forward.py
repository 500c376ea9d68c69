"""Whatever algorithm computes a convolution, its numbers are those of Keras's network."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.backbones import forward
from pipeline.backbones.forward import convolution_matrix, forward_function
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import random_arrays
from pipeline.errors import BadInput

VGG16 = BACKBONES["vgg16"]
GENERATOR = np.random.Generator(np.random.PCG64(0))
PICTURES = GENERATOR.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}  # of a feature vector's length; bfloat16 has 8 bits


@pytest.fixture(scope="module")
def arrays():
    """Random weights with biases, as trained ones have."""
    found = random_arrays(VGG16, seed=0)
    return {
        name: (kernel, GENERATOR.normal(size=bias.shape).astype("f4"))
        for name, (kernel, bias) in found.items()
    }


def computed(arrays, *, row=VGG16, layers=VGG16.taps, **changes) -> list[np.ndarray]:
    options = {"image_size": 32, "input_size": 32, "pooling": "average", "precision": "float32"}
    compute = forward_function(row, arrays, layers=list(layers), batch_size=4, **{**options, **changes})
    return compute(PICTURES)


def by_keras(arrays, *, input_size: int = 32) -> list[np.ndarray]:
    """Return the maps of all taps of Keras's own network, in float32."""
    import keras
    import tensorflow as tf

    network = build_backbone(VGG16, arrays, input_size=input_size)
    taps = keras.Model(
        network.get_layer("subtract_means").output, [network.get_layer(tap).output for tap in VGG16.taps]
    )
    resized = tf.image.resize(PICTURES, (input_size, input_size), "bilinear", antialias=True)
    return [maps.numpy() for maps in taps(network.get_layer("subtract_means")(resized), training=False)]


def distance(have: np.ndarray, want: np.ndarray) -> float:
    """Return the length of the difference as a share of the length of what was wanted."""
    return float(np.linalg.norm(have - want) / np.linalg.norm(want))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("input_size", [32, 40, pytest.param(64, marks=pytest.mark.slow)])
def test_features_of_all_layers_are_those_of_keras_within_the_precision(arrays, precision, input_size):
    want = by_keras(arrays, input_size=input_size)
    have = computed(arrays, precision=precision, input_size=input_size)
    for found, maps in zip(have, want, strict=True):
        assert found.dtype == np.float32
        assert distance(found, maps.mean((1, 2))) < TOLERANCE[precision]


def test_maps_are_those_of_keras(arrays):
    for found, maps in zip(computed(arrays, pooling="none"), by_keras(arrays), strict=True):
        assert found.shape == maps.shape
        assert distance(found, maps) < TOLERANCE["float32"]


@pytest.mark.parametrize(
    ("algorithm", "side"), [("_winograd", 4), ("_winograd", 8), ("_dense", 2), ("_dense", 3)]
)
def test_an_algorithm_gives_the_direct_convolution(algorithm, side):
    import tensorflow as tf

    x = tf.constant(GENERATOR.normal(size=(3, side, side, 5)), tf.float32)
    kernel, bias = GENERATOR.normal(size=(3, 3, 5, 7)).astype("f4"), GENERATOR.normal(size=7).astype("f4")
    want = forward._direct(x, kernel, bias).numpy()
    have = getattr(forward, algorithm)(x, kernel, bias).numpy()
    assert (want == 0).any() and (want > 0).any()
    np.testing.assert_allclose(have, want, atol=1e-4)


def test_each_convolution_has_the_algorithm_that_the_key_names():
    chosen = {
        side: forward._algorithm(side, channels, filters).__name__
        for side, channels, filters in [
            (32, 64, 64),
            (16, 64, 128),
            (8, 128, 256),
            (4, 512, 512),
            (2, 512, 512),
        ]
    }
    assert chosen == {32: "_direct", 16: "_direct", 8: "_winograd", 4: "_winograd", 2: "_dense"}
    assert forward._algorithm(7, 512, 512).__name__ == "_direct"
    assert VGG16.algorithms == "direct; winograd 2x2 from 256 channels; dense at 2 px"


def test_the_matrix_of_a_convolution_knows_no_neighbours_outside_the_map():
    matrix = convolution_matrix(np.arange(1, 10, dtype=float).reshape(3, 3, 1, 1), side=2)
    assert matrix.tolist() == [[5, 4, 2, 1], [6, 5, 3, 2], [8, 7, 5, 4], [9, 8, 6, 5]]


def test_only_the_network_up_to_the_deepest_layer_is_computed(arrays, monkeypatch):
    direct, sides = forward._direct, []
    monkeypatch.setattr(forward, "_direct", lambda x, *pair: sides.append(x.shape[1]) or direct(x, *pair))
    monkeypatch.setattr(forward, "_winograd", None)
    (found,) = computed(arrays, layers=["block2_pool"])
    assert found.shape == (4, 128)
    assert sides == [32, 32, 16, 16]
    with pytest.raises(TypeError):
        computed(arrays, layers=["block3_pool"])


def test_a_network_does_not_read_images_that_are_too_small(arrays):
    with pytest.raises(BadInput, match="VGG16: expected images of 32 px or more, received 16"):
        computed(arrays, input_size=16)


def test_weights_that_do_not_fit_are_refused_by_the_name_of_the_layer(arrays):
    with pytest.raises(BadInput, match="expected block5_conv3 of shapes .* received None"):
        computed({name: pair for name, pair in arrays.items() if name != "block5_conv3"})
    turned = arrays | {"block1_conv2": (arrays["block1_conv2"][0][:2], arrays["block1_conv2"][1])}
    with pytest.raises(BadInput, match="expected block1_conv2 of shapes"):
        computed(turned)
