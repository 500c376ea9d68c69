"""Whatever algorithm computes a convolution, its numbers are those of Keras's network."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.backbones import algorithms, forward
from pipeline.backbones.forward import convolution_matrix, forward_function
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES, choose_weights
from pipeline.backbones.weights import random_arrays
from pipeline.errors import BadInput
from pipeline.features.sections import cache_fingerprint
from pipeline.storage.fingerprint import key_of

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
    shapes = [(32, 64), (16, 128), (8, 256), (4, 512), (2, 512), (7, 512)]
    chosen = [algorithms.algorithm(*shape) for shape in shapes]
    assert chosen == ["direct", "direct", "winograd", "winograd", "dense", "direct"]
    assert VGG16.algorithms == "direct; winograd 2x2 from 256 channels; dense at 2 px"


@pytest.fixture
def computed_by(monkeypatch) -> dict[tuple[int, int, int], str]:
    """What computes a convolution, by side, channels and filters, in graphs that are made afterwards."""
    found = {}

    def noted(name, compute):
        def note(x, kernel, bias):
            found[(x.shape[1], *kernel.shape[2:])] = name
            return compute(x, kernel, bias)

        return note

    for name, compute in forward.ALGORITHMS.items():
        monkeypatch.setitem(forward.ALGORITHMS, name, noted(name, compute))
    return found


def in_the_words_of_the_key(side: int, filters: int) -> str:
    """Return the algorithm of a convolution as the text of the key says it."""
    text = r"direct; winograd (\d+)x\1 from (\d+) channels; dense at (\d+) px"
    tile, channels, dense = map(int, re.fullmatch(text, VGG16.algorithms).groups())
    if side == dense:
        return "dense"
    return "winograd" if side % tile == 0 and filters >= channels else "direct"


def test_every_convolution_of_vgg16_at_every_size_has_the_algorithm_that_the_key_names():
    for size in range(32, 225):
        for one in VGG16.convolutions():
            side = size // one.stride
            assert algorithms.algorithm(side, one.filters) == in_the_words_of_the_key(side, one.filters)


@pytest.mark.parametrize("input_size", [32, 40])
def test_the_algorithms_that_the_key_names_are_those_that_compute(arrays, computed_by, input_size):
    computed(arrays, input_size=input_size)
    wanted = {(input_size // one.stride, one.channels, one.filters) for one in VGG16.convolutions()}
    assert computed_by == {shape: in_the_words_of_the_key(shape[0], shape[2]) for shape in wanted}


@pytest.mark.parametrize(
    ("constant", "value", "shape"),
    [
        ("WINOGRAD_CHANNELS", 512, (8, 128, 256)),
        ("WINOGRAD_TILE", 8, (4, 512, 512)),
        ("DENSE_SIDE", 4, (4, 512, 512)),
    ],
)
def test_a_changed_threshold_changes_the_key_and_what_computes(
    arrays, computed_by, monkeypatch, constant, value, shape
):
    wanted = {"dataset": {}, "backbone": "vgg16", "weights": choose_weights("random", "vgg16")}
    before = key_of(cache_fingerprint(**wanted, precision="float32"))
    assert in_the_words_of_the_key(shape[0], shape[2]) == "winograd"
    monkeypatch.setattr(algorithms, constant, value)
    assert key_of(cache_fingerprint(**wanted, precision="float32")) != before
    computed(arrays)
    assert computed_by[shape] == in_the_words_of_the_key(shape[0], shape[2]) != "winograd"


def test_the_matrix_of_a_convolution_knows_no_neighbours_outside_the_map():
    matrix = convolution_matrix(np.arange(1, 10, dtype=float).reshape(3, 3, 1, 1), side=2)
    assert matrix.tolist() == [[5, 4, 2, 1], [6, 5, 3, 2], [8, 7, 5, 4], [9, 8, 6, 5]]


def test_only_the_network_up_to_the_deepest_layer_is_computed(arrays, monkeypatch):
    direct, sides = forward._direct, []
    noted = {"direct": lambda x, *pair: sides.append(x.shape[1]) or direct(x, *pair), "winograd": None}
    monkeypatch.setattr(forward, "ALGORITHMS", noted)
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
