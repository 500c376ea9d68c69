"""Ridge, class means and neighbours are what scikit-learn and plain NumPy compute."""

from __future__ import annotations

import dataclasses
import importlib

import keras
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from pipeline.heads import neighbours, prototype, ridge
from pipeline.heads.data import HeadData, moments
from pipeline.heads.model import with_probabilities
from pipeline.heads.neighbours import FLOOR, SHARPNESS
from pipeline.recipes.heads import HEADS

# Keras saves and loads its variables in a way of which NumPy 2 warns
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALPHAS = [1e-3, 1.0, 100.0, 1e5]
COUNTS = [1, 3, 20, 10_000]


def fitted(data: HeadData, name: str, **settings) -> keras.Model:
    """Return the head of a row of HEADS with some settings: features in, answers out."""
    recipe = dataclasses.replace(HEADS[name], **settings)
    return importlib.import_module(recipe.module).fit(recipe, data)


def answers_of(model: keras.Model, data: HeadData) -> np.ndarray:
    """Return what a model answers on the val images of one view."""
    return model(data.examples.inputs[data.examples.val], training=False).numpy()


def cosine_votes(data: HeadData, count: int) -> np.ndarray:
    """Return the logarithms of the shares of the votes of the count nearest training rows, in plain NumPy."""
    lengths = (np.linalg.norm(rows, axis=1, keepdims=True) for rows in (data.val, data.train))
    queries, bank = (rows / length for rows, length in zip((data.val, data.train), lengths, strict=True))
    found = []
    for likeness in queries.astype(np.float64) @ bank.T:
        nearest = np.argsort(-likeness, kind="stable")[:count]
        votes = np.zeros(data.classes)
        for row in nearest:
            votes[data.train_labels[row]] += np.exp(SHARPNESS * (likeness[row] - likeness[nearest[0]]))
        found.append(np.log(votes / votes.sum() + FLOOR))
    return np.array(found)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_ridge_is_scikit_learns_on_targets_of_plus_and_minus_one(overlapping, alpha):
    targets = 2 * np.eye(overlapping.classes)[overlapping.train_labels] - 1
    other = Ridge(alpha=alpha).fit(overlapping.train.astype(np.float64), targets)
    found = answers_of(fitted(overlapping, "ridge", alpha=alpha), overlapping)
    np.testing.assert_allclose(found, other.predict(overlapping.val), atol=1e-4)


def test_ridge_with_fewer_images_than_features_is_scikit_learns(overlapping):
    few = HeadData(dataclasses.replace(overlapping.examples, train=np.arange(8)))
    targets = 2 * np.eye(4)[few.train_labels] - 1
    other = Ridge(alpha=0.1).fit(few.train.astype(np.float64), targets)
    found = answers_of(fitted(few, "ridge", alpha=0.1), few)
    np.testing.assert_allclose(found, other.predict(few.val), atol=1e-3)


def test_ridge_is_right_where_other_rows_set_the_standard(overlapping):
    few = dataclasses.replace(overlapping.examples, train=np.arange(40))
    shifted = HeadData(few, standard=moments(overlapping.examples.inputs))
    assert np.abs(shifted.train.mean(axis=0)).max() > 0.05
    targets = 2 * np.eye(4)[shifted.train_labels] - 1
    other = Ridge(alpha=10.0).fit(shifted.train.astype(np.float64), targets).predict(shifted.val)
    recipe = dataclasses.replace(HEADS["ridge"], alpha=10.0)
    np.testing.assert_allclose(answers_of(ridge.fit(recipe, shifted), shifted), other, atol=1e-4)
    np.testing.assert_allclose(ridge.answers(recipe, [{}], shifted)[0][0], other, atol=1e-4)


def test_class_means_answer_as_scikit_learns_nearest_centroid(overlapping):
    other = NearestCentroid().fit(overlapping.train, overlapping.train_labels)
    found = answers_of(fitted(overlapping, "prototype"), overlapping)
    assert (found.argmax(axis=1) == other.predict(overlapping.val)).all()
    distances = np.linalg.norm(overlapping.val[:, None] - other.centroids_, axis=2) ** 2
    gaps = -0.5 * (distances - distances[:, :1])
    np.testing.assert_allclose(found - found[:, :1], gaps, atol=1e-3)


@pytest.mark.parametrize("count", COUNTS)
def test_neighbours_vote_as_brute_numpy_computes_it(overlapping, count):
    found = neighbours.answers(HEADS["knn"], [{"neighbours": count}], overlapping)[0]
    np.testing.assert_allclose(found[0], cosine_votes(overlapping, count), atol=1e-3)


def test_a_class_without_a_vote_keeps_a_finite_answer(overlapping):
    found = neighbours.answers(HEADS["knn"], [{"neighbours": 1}], overlapping)[0]
    assert found.min() == pytest.approx(np.log(FLOOR))
    assert found.max() == pytest.approx(np.log(1 + FLOOR), abs=1e-6)


def test_a_saved_neighbours_head_answers_as_it_did(overlapping, tmp_path):
    model = with_probabilities(fitted(overlapping, "knn", neighbours=5), 0.7)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    found = answers_of(again, overlapping)
    assert np.array_equal(found, answers_of(model, overlapping))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_a_row_of_zeros_has_a_finite_answer(overlapping):
    mean, _ = overlapping.moments
    for name in ("knn", "ridge", "prototype"):
        assert np.isfinite(fitted(overlapping, name)(mean[None], training=False).numpy()).all()


PATHS = [
    ("ridge", "alpha", ALPHAS, 1e-4),
    ("knn", "neighbours", COUNTS, 0.02),  # a model holds its images in float16
    ("logistic", "c", [1e-3, 0.1], 0.02),
    ("svm", "c", [1e-3, 0.1], 0.02),
]


@pytest.mark.parametrize(("name", "setting", "values", "close"), PATHS, ids=[path[0] for path in PATHS])
def test_many_settings_at_once_answer_as_heads_fitted_one_by_one(overlapping, name, setting, values, close):
    module = importlib.import_module(HEADS[name].module)
    found = module.answers(HEADS[name], [{setting: value} for value in values], overlapping)
    assert [one.shape for one in found] == [(1, 80, 4)] * len(values)
    for value, one in zip(values, found, strict=True):
        alone = answers_of(fitted(overlapping, name, **{setting: value}), overlapping)
        np.testing.assert_allclose(one[0], alone, atol=close)


def test_a_point_without_the_setting_takes_the_recipes(overlapping):
    given, own = (ridge.answers(HEADS["ridge"], [point], overlapping) for point in ({"alpha": 1e3}, {}))
    assert np.array_equal(given, own)


@pytest.mark.parametrize("name", ["ridge", "prototype"])
def test_two_views_that_are_equal_give_the_head_of_one(overlapping, seen_twice, name):
    one, two = (answers_of(fitted(data, name), data) for data in (overlapping, seen_twice(overlapping)))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_every_view_of_an_image_gets_an_answer(overlapping, seen_twice):
    for module in (ridge, prototype, neighbours):
        name = module.__name__.rpartition(".")[2].replace("neighbours", "knn")
        found = module.answers(HEADS[name], [{}], seen_twice(overlapping))[0]
        assert found.shape == (2, 80, 4)
        assert np.array_equal(found[0], found[1])
