"""Every algorithm for a convolution gives the same numbers as Keras's network."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.backbones import algorithms, forward, winograd
from pipeline.backbones.engines import ENGINES, PassSpec
from pipeline.backbones.forward import convolution_matrix, forward_function
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES, choose_weights
from pipeline.backbones.weights import random_arrays
from pipeline.errors import BadInput
from pipeline.features.sections import cache_fingerprint
from pipeline.storage.fingerprint import key_of

VGG16 = BACKBONES["vgg16"]
GENERATOR = np.random.Generator(np.random.PCG64(0))
IMAGES = GENERATOR.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}  # relative to the norm; bfloat16 has 8 significant bits


@pytest.fixture(scope="module")
def arrays():
    """Random weights with nonzero biases."""
    initial = random_arrays(VGG16, seed=0)
    return {
        name: (kernel, GENERATOR.normal(size=bias.shape).astype("f4"))
        for name, (kernel, bias) in initial.items()
    }


def computed(arrays, *, row=VGG16, layers=VGG16.taps, **changes) -> list[np.ndarray]:
    pooling = changes.pop("pooling", "average")
    options = {"image_size": 32, "input_size": 32, "precision": "float32"}
    taps = [(layer, pooling) for layer in layers]
    spec = PassSpec(taps=taps, batch_size=4, **{**options, **changes})
    return forward_function(row, arrays, spec)(IMAGES)


def keras_maps(arrays, *, input_size: int = 32) -> list[np.ndarray]:
    """Return the feature maps of all taps from Keras's own network, in float32."""
    import keras
    import tensorflow as tf

    network = build_backbone(VGG16, arrays, input_size=input_size)
    taps = keras.Model(
        network.get_layer("subtract_means").output, [network.get_layer(tap).output for tap in VGG16.taps]
    )
    resized = tf.image.resize(IMAGES, (input_size, input_size), "bilinear", antialias=True)
    return [maps.numpy() for maps in taps(network.get_layer("subtract_means")(resized), training=False)]


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the norm of the difference relative to the norm of expected."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
@pytest.mark.parametrize(
    "input_size", [pytest.param(32, marks=pytest.mark.slow), 40, pytest.param(64, marks=pytest.mark.slow)]
)
def test_features_of_all_layers_match_keras_within_the_precision(arrays, precision, input_size):
    expected = keras_maps(arrays, input_size=input_size)
    actual = computed(arrays, precision=precision, input_size=input_size)
    for features, maps in zip(actual, expected, strict=True):
        assert features.dtype == np.float32
        assert relative_error(features, maps.mean((1, 2))) < TOLERANCE[precision]


@pytest.mark.slow
def test_feature_maps_match_keras(arrays):
    for actual, expected in zip(computed(arrays, pooling="none"), keras_maps(arrays), strict=True):
        assert actual.shape == expected.shape
        assert relative_error(actual, expected) < TOLERANCE["float32"]


@pytest.mark.parametrize(
    ("algorithm", "side"),
    [("_winograd", 2), ("_winograd", 4), ("_winograd", 6), ("_winograd", 8), ("_dense", 2), ("_dense", 3)],
)
@pytest.mark.parametrize("pool", [False, True])
def test_algorithm_matches_the_direct_convolution(algorithm, side, pool):
    import tensorflow as tf

    x = tf.constant(GENERATOR.normal(size=(3, side, side, 5)), tf.float32)
    kernel, bias = GENERATOR.normal(size=(3, 3, 5, 7)).astype("f4"), GENERATOR.normal(size=7).astype("f4")
    expected = forward._direct(x, kernel, bias, pool).numpy()
    actual = getattr(forward, algorithm)(x, kernel, bias, pool).numpy()
    assert (expected == 0).any() or pool
    assert (expected > 0).any()
    assert expected.shape[1] == (side // 2 if pool else side)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_algorithm_depends_on_side_and_filters():
    shapes = [(32, 64), (16, 128), (18, 128), (18, 256), (4, 512), (2, 512), (7, 512)]
    chosen = [algorithms.algorithm(*shape) for shape in shapes]
    assert chosen == ["direct", "winograd", "direct", "winograd", "winograd", "dense", "direct"]
    assert [algorithms.winograd_tile(side) for side in (32, 18, 7)] == [4, 2, 0]
    assert algorithms.describe_algorithms() == (
        "direct; winograd 4x4 at 0 0.625 -0.625 1.5 -1.5 from 128, 2x2 at 0 1 -1 from 256 channels; "
        "dense at 2 px"
    )


def test_the_engine_for_amx_keeps_winograd_for_small_maps_and_has_a_key_of_its_own():
    shapes = [(32, 128), (20, 256), (16, 256), (8, 512), (2, 512)]
    chosen = [algorithms.algorithm(*shape, algorithms.AMX_WINOGRAD_SIDE) for shape in shapes]
    assert chosen == ["direct", "direct", "winograd", "winograd", "dense"]
    usual, amx = (ENGINES[name].describe_algorithms(VGG16) for name in ("tensorflow", "tensorflow-amx"))
    assert amx == usual.replace("256 channels", "256 channels up to 16 px") != usual


@pytest.fixture
def computed_by(monkeypatch) -> dict[tuple[int, int, int], str]:
    """The algorithm of each convolution, by (side, channels, filters), in graphs built from now on."""
    names = {}

    def recorded(name, compute):
        def record(x, kernel, bias, pool):
            names[(x.shape[1], *kernel.shape[2:])] = name
            return compute(x, kernel, bias, pool)

        return record

    for name, compute in forward.ALGORITHMS.items():
        monkeypatch.setitem(forward.ALGORITHMS, name, recorded(name, compute))
    return names


def algorithm_in_key(side: int, filters: int) -> str:
    """Return the algorithm of a convolution according to the description in the key."""
    text = r"direct; winograd (.*) channels; dense at (\d+) px"
    tiles, dense = re.fullmatch(text, algorithms.describe_algorithms()).groups()
    if side == int(dense):
        return "dense"
    for tile, channels in re.findall(r"(\d+)x\1 at [-. 0-9]+ from (\d+)", tiles):
        if side % int(tile) == 0:
            return "winograd" if filters >= int(channels) else "direct"
    return "direct"


def convolutions_at(size: int) -> set[tuple[int, int, int]]:
    """Return the side of the maps, the channels and the filters of VGG16's convolutions."""
    steps = [step for step in VGG16.steps if step.kind == "conv"]
    return {(size >> (int(step.name[5]) - 1), step.channels, step.filters) for step in steps}


def test_algorithm_of_every_convolution_of_vgg16_at_every_size_matches_the_key():
    for size in range(32, 225):
        for side, _, filters in convolutions_at(size):
            assert algorithms.algorithm(side, filters) == algorithm_in_key(side, filters)


@pytest.mark.parametrize("input_size", [pytest.param(32, marks=pytest.mark.slow), 40])
def test_the_algorithms_in_the_key_are_the_ones_that_run(arrays, computed_by, input_size):
    computed(arrays, input_size=input_size)
    shapes = convolutions_at(input_size)
    assert computed_by == {shape: algorithm_in_key(shape[0], shape[2]) for shape in shapes}


@pytest.mark.parametrize(
    ("constant", "value", "shape"),
    [
        pytest.param("WINOGRAD_CHANNELS", {4: 512}, (8, 128, 256), marks=pytest.mark.slow),
        pytest.param("WINOGRAD_CHANNELS", {4: 256}, (16, 64, 128), marks=pytest.mark.slow),
        ("DENSE_SIDE", 4, (4, 512, 512)),
    ],
)
def test_changed_threshold_changes_the_key_and_the_algorithm(
    arrays, computed_by, monkeypatch, constant, value, shape
):
    settings = {
        "dataset": {"image_size": 32},
        "backbone": "vgg16",
        "weights": choose_weights("random", "vgg16"),
    }
    before = key_of(cache_fingerprint(**settings, precision="float32"))
    assert algorithm_in_key(shape[0], shape[2]) == "winograd"
    monkeypatch.setattr(algorithms, constant, value)
    assert key_of(cache_fingerprint(**settings, precision="float32")) != before
    computed(arrays)
    assert computed_by[shape] == algorithm_in_key(shape[0], shape[2]) != "winograd"


@pytest.mark.parametrize("tile", [2, 4])
def test_winograds_transforms_give_the_convolution_of_every_tile_exactly(tile):
    tiles, kernels, outputs = winograd.transforms(tile)
    pixels, kernel = GENERATOR.normal(size=tile + 2), GENERATOR.normal(size=3)
    expected = np.correlate(pixels, kernel, "valid")
    np.testing.assert_allclose(outputs @ ((kernels @ kernel) * (tiles @ pixels)), expected, atol=1e-13)


def test_convolution_matrix_ignores_the_padding():
    matrix = convolution_matrix(np.arange(1, 10, dtype=float).reshape(3, 3, 1, 1), side=2)
    assert matrix.numpy().tolist() == [[5, 4, 2, 1], [6, 5, 3, 2], [8, 7, 5, 4], [9, 8, 6, 5]]


def test_layers_past_the_deepest_one_are_not_computed(arrays, monkeypatch):
    direct, sides = forward._direct, []
    recorded = {"direct": lambda x, *rest: sides.append(x.shape[1]) or direct(x, *rest)}
    recorded |= {"winograd": recorded["direct"], "dense": None}
    monkeypatch.setattr(forward, "ALGORITHMS", recorded)
    (features,) = computed(arrays, layers=["block2_pool"])
    assert features.shape == (4, 128)
    assert sides == [32, 32, 16, 16]
    with pytest.raises(TypeError):
        computed(arrays, layers=["block5_pool"])


def test_images_that_are_too_small_are_an_error(arrays):
    with pytest.raises(BadInput, match="VGG16: expected images of 32 px or more, received 16"):
        computed(arrays, input_size=16)
