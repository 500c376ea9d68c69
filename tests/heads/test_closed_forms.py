"""Ridge, class means and nearest neighbors match scikit-learn and plain NumPy."""

from __future__ import annotations

import dataclasses
import importlib

import keras
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from pipeline.heads import linear, neighbours
from pipeline.heads.calibration import with_probabilities
from pipeline.heads.data import HeadData, moments
from pipeline.heads.neighbours import FLOOR, SHARPNESS
from pipeline.recipes.heads import HEADS

# NumPy 2 warns about how Keras saves and loads variables
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALPHAS = [1e-3, 1.0, 100.0, 1e5]
COUNTS = [1, 3, 20, 10_000]


def fitted(data: HeadData, name: str, **settings) -> keras.Model:
    """Return the fitted head of a row of HEADS with changed settings; it outputs logits."""
    recipe = dataclasses.replace(HEADS[name], **settings)
    return importlib.import_module(recipe.module).fit(recipe, data)


def val_logits(model: keras.Model, data: HeadData) -> np.ndarray:
    """Return a model's output on the val images of a single view."""
    return model(data.examples.inputs[data.examples.val], training=False).numpy()


def cosine_votes(data: HeadData, count: int) -> np.ndarray:
    """Return the log vote shares of the count nearest training rows, in plain NumPy."""
    lengths = (np.linalg.norm(rows, axis=1, keepdims=True) for rows in (data.val, data.train))
    queries, bank = (rows / length for rows, length in zip((data.val, data.train), lengths, strict=True))
    log_shares = []
    for similarity in queries.astype(np.float64) @ bank.T:
        nearest = np.argsort(-similarity, kind="stable")[:count]
        votes = np.zeros(data.classes)
        for row in nearest:
            votes[data.train_labels[row]] += np.exp(SHARPNESS * (similarity[row] - similarity[nearest[0]]))
        log_shares.append(np.log(votes / votes.sum() + FLOOR))
    return np.array(log_shares)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_ridge_matches_scikit_learn_on_targets_of_plus_and_minus_one(overlapping, alpha):
    targets = 2 * np.eye(overlapping.classes)[overlapping.train_labels] - 1
    reference = Ridge(alpha=alpha).fit(overlapping.train.astype(np.float64), targets)
    logits = val_logits(fitted(overlapping, "ridge", alpha=alpha), overlapping)
    np.testing.assert_allclose(logits, reference.predict(overlapping.val), atol=1e-4)


def test_ridge_with_fewer_images_than_features_matches_scikit_learn(overlapping):
    few = HeadData(dataclasses.replace(overlapping.examples, train=np.arange(8)))
    targets = 2 * np.eye(4)[few.train_labels] - 1
    reference = Ridge(alpha=0.1).fit(few.train.astype(np.float64), targets)
    logits = val_logits(fitted(few, "ridge", alpha=0.1), few)
    np.testing.assert_allclose(logits, reference.predict(few.val), atol=1e-3)


def test_ridge_matches_scikit_learn_when_other_rows_set_the_moments(overlapping):
    few = dataclasses.replace(overlapping.examples, train=np.arange(40))
    shifted = HeadData(few, standardize_by=moments(overlapping.examples.inputs))
    assert np.abs(shifted.train.mean(axis=0)).max() > 0.05
    targets = 2 * np.eye(4)[shifted.train_labels] - 1
    reference = Ridge(alpha=10.0).fit(shifted.train.astype(np.float64), targets).predict(shifted.val)
    recipe = dataclasses.replace(HEADS["ridge"], alpha=10.0)
    np.testing.assert_allclose(val_logits(linear.fit(recipe, shifted), shifted), reference, atol=1e-4)
    np.testing.assert_allclose(linear.predict_logits(recipe, [{}], shifted)[0][0], reference, atol=1e-4)


def test_class_means_predict_the_same_as_scikit_learns_nearest_centroid(overlapping):
    reference = NearestCentroid().fit(overlapping.train, overlapping.train_labels)
    logits = val_logits(fitted(overlapping, "prototype"), overlapping)
    assert (logits.argmax(axis=1) == reference.predict(overlapping.val)).all()
    distances = np.linalg.norm(overlapping.val[:, None] - reference.centroids_, axis=2) ** 2
    gaps = -0.5 * (distances - distances[:, :1])
    np.testing.assert_allclose(logits - logits[:, :1], gaps, atol=1e-3)


@pytest.mark.parametrize("count", COUNTS)
def test_neighbors_vote_as_in_plain_numpy(overlapping, count):
    logits = neighbours.predict_logits(HEADS["knn"], [{"neighbours": count}], overlapping)[0]
    np.testing.assert_allclose(logits[0], cosine_votes(overlapping, count), atol=1e-3)


def test_a_class_without_votes_has_a_finite_logit(overlapping):
    logits = neighbours.predict_logits(HEADS["knn"], [{"neighbours": 1}], overlapping)[0]
    assert logits.min() == pytest.approx(np.log(FLOOR))
    assert logits.max() == pytest.approx(np.log(1 + FLOOR), abs=1e-6)


def test_a_saved_neighbors_head_predicts_the_same_when_loaded(overlapping, tmp_path):
    model = with_probabilities(fitted(overlapping, "knn", neighbours=5), 0.7)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    logits = val_logits(loaded, overlapping)
    assert np.array_equal(logits, val_logits(model, overlapping))
    np.testing.assert_allclose(logits.sum(axis=1), 1, atol=1e-5)


def test_a_row_equal_to_the_mean_has_finite_logits(overlapping):
    mean, _ = overlapping.moments
    for name in ("knn", "ridge", "prototype"):
        assert np.isfinite(fitted(overlapping, name)(mean[None], training=False).numpy()).all()


PATHS = [
    ("ridge", "alpha", ALPHAS, 1e-4),
    ("knn", "neighbours", COUNTS, 0.02),  # a model stores its images in float16
    ("logistic", "c", [1e-3, 0.1], 0.02),
    ("svm", "c", [1e-3, 0.1], 0.02),
]


@pytest.mark.parametrize(("name", "setting", "values", "atol"), PATHS, ids=[path[0] for path in PATHS])
def test_settings_solved_together_match_heads_fitted_one_by_one(overlapping, name, setting, values, atol):
    module = importlib.import_module(HEADS[name].module)
    logits = module.predict_logits(HEADS[name], [{setting: value} for value in values], overlapping)
    assert [one.shape for one in logits] == [(1, 80, 4)] * len(values)
    for value, one in zip(values, logits, strict=True):
        single = val_logits(fitted(overlapping, name, **{setting: value}), overlapping)
        np.testing.assert_allclose(one[0], single, atol=atol)


def test_a_point_without_the_setting_uses_the_recipes(overlapping):
    points = ({"alpha": 1e3}, {})
    explicit, default = (linear.predict_logits(HEADS["ridge"], [point], overlapping) for point in points)
    assert np.array_equal(explicit, default)


@pytest.mark.parametrize("name", ["ridge", "prototype"])
def test_two_equal_views_give_the_same_head_as_one(overlapping, with_equal_views, name):
    one, two = (val_logits(fitted(data, name), data) for data in (overlapping, with_equal_views(overlapping)))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_every_view_of_an_image_gets_logits(overlapping, with_equal_views):
    for name in ("ridge", "prototype", "knn"):
        module = importlib.import_module(HEADS[name].module)
        logits = module.predict_logits(HEADS[name], [{}], with_equal_views(overlapping))[0]
        assert logits.shape == (2, 80, 4)
        assert np.array_equal(logits[0], logits[1])
