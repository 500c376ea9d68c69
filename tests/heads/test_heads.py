"""A head standardizes by training rows only, handles constant features, and counts its parameters."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from pipeline import numerics
from pipeline.backbones.table import BACKBONES
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import with_probabilities
from pipeline.heads.data import HeadData, moments
from pipeline.heads.network import build_head
from pipeline.progress import silent
from pipeline.recipes.schemes import SCHEMES
from pipeline.schemes.head import parameters_below, train_head
from pipeline.training.examples import Examples
from pipeline.training.feed import Feed
from pipeline.training.history import Clock
from pipeline.training.job import Job


def standardize(examples: Examples) -> np.ndarray:
    """Return the output of a head's first layer for all inputs."""
    head = build_head(HeadData(examples), "dense", (), 0.0)
    return head.get_layer("standardise")(examples.inputs).numpy()


@pytest.fixture
def scattered(toy) -> Examples:
    """The toy examples with features of very different means and scales."""
    inputs = toy.inputs * np.float32([0.1, 1, 5, 20]) + np.float32([0, -8, 100, 500])
    return dataclasses.replace(toy, inputs=inputs)


def test_training_rows_are_standardized(scattered):
    train = standardize(scattered)[scattered.train].astype(np.float64)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-4)


def test_only_training_rows_determine_the_moments(scattered):
    inputs = scattered.inputs.copy()
    inputs[scattered.val] = 1e6
    changed = standardize(dataclasses.replace(scattered, inputs=inputs))
    assert np.array_equal(standardize(scattered)[scattered.train], changed[scattered.train])


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_constant_features_stay_small(toy, noise):
    inputs = toy.inputs.copy()
    inputs[:, 1] = 5 + noise * np.arange(len(inputs))
    inputs[toy.val, 1] = 6
    outputs = standardize(dataclasses.replace(toy, inputs=inputs))
    assert np.abs(outputs).max() < 10


def test_if_all_features_are_constant_they_are_only_centered():
    mean, variance = moments(np.full((5, 3), 7, np.float32))
    assert mean.tolist() == [7] * 3
    assert variance.tolist() == [1] * 3
    assert mean.dtype == variance.dtype == np.float32


def test_moments_of_large_numbers_are_exact():
    values = np.float32([[100_001], [100_002], [100_003]])
    mean, variance = moments(values)
    assert mean.tolist() == [100_002]
    assert variance.tolist() == [pytest.approx(2 / 3)]


def test_other_training_rows_keep_the_moments_and_do_not_change_the_original_data(scattered):
    data = HeadData(scattered)
    before, rows = data.train, scattered.train[::2]
    fewer = HeadData(dataclasses.replace(scattered, train=rows), standardize_by=data.moments)
    np.testing.assert_array_equal(fewer.train, before[::2])
    np.testing.assert_array_equal(fewer.val, data.val)
    np.testing.assert_array_equal(fewer.train_labels, scattered.labels[rows])
    np.testing.assert_array_equal(data.train, before)
    assert data.examples is scattered


def test_a_linear_head_has_a_weight_for_each_feature_and_class_and_a_bias(toy):
    head = with_probabilities(build_head(HeadData(toy), "dense - dropout", (), 0.5), None)
    assert head.count_params() == 4 * 3 + 3
    assert [layer.name for layer in head.layers] == ["features", "standardise", "logits", "probabilities"]


def test_a_dense_head_has_a_block_for_each_number_of_units(toy):
    head = build_head(HeadData(toy), "dense - batch norm - dropout", (8, 5), 0.4)
    assert head.count_params() == (4 * 8 + 8 + 4 * 8) + (8 * 5 + 5 + 4 * 5) + (5 * 3 + 3)
    assert head.get_layer("dense1_dropout1").rate == head.get_layer("dense2_dropout1").rate == 0.4
    assert head.get_layer("dense2_dense1").units == 5


@pytest.mark.parametrize("block", [1, 2, 3, 4, 5])
def test_parameters_below_a_layer_match_kerass_own_network(block):
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    below = keras.Model(network.input, network.get_layer(f"block{block}_pool").output)
    assert parameters_below("vgg16", (f"block{block}_pool",)) == below.count_params()


def test_the_deepest_of_several_layers_counts():
    taps = BACKBONES["vgg16"].taps
    assert parameters_below("vgg16", (taps[3], taps[1])) == parameters_below("vgg16", taps[3:4]) == 7_635_264


def test_a_head_draws_views_for_training_and_averages_them_for_its_predictions(digits, features):
    numerics.configure(seed=0, precision="float32")
    images, store = ImageStore(digits), FeatureStore(features)
    settings = {"epochs": 2, "layers": ["block2_pool"], "views": ["identity", "hflip"]}
    recipe = SCHEMES["head"].recipe("linear", settings)
    trained = train_head(Job(recipe, 0, images, store, None, "vgg16", 32, Clock(), silent))
    predictions = [trained.model(store.load(["block2_pool"], view)[trained.rows]) for view in recipe.views]
    np.testing.assert_allclose(trained.probabilities, sum(map(np.asarray, predictions)) / 2, atol=1e-5)
    assert np.abs(np.asarray(predictions[0]) - np.asarray(predictions[1])).max() > 1e-3


def test_all_views_of_an_example_are_drawn_about_equally_often(make_stage):
    inputs, labels = np.zeros((3 * 1000, 1), np.float32), np.zeros(1000, np.int64)
    examples = Examples(inputs, labels, np.arange(1000), np.arange(0), 1, views=3)
    (sampled,) = next(Feed(examples, make_stage(batch_size=1000), seed=0).epochs())
    assert np.array_equal(np.sort(sampled % 1000), np.arange(1000))
    assert np.abs(np.bincount(sampled // 1000) - 1000 / 3).max() < 60
