"""A weight of 2 is a row that comes twice, for every kind of head; balanced classes are scikit-learn's."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.utils.class_weight import compute_sample_weight

from pipeline.errors import BadInput
from pipeline.heads.data import HeadData
from pipeline.heads.fit import fit_head
from pipeline.heads.penalised import LOSSES, solve_path
from pipeline.recipes.heads import HEADS, Head

TIMES = np.arange(320) % 3  # how often each row comes, or its weight
FULL_BATCH = {"batch_size": 8192, "epochs": 8, "learning_rate": 0.03, "label_smoothing": 0.1}
RECIPES = {
    **{"linear": FULL_BATCH, "dense": {**FULL_BATCH, "units": (8,), "dropout": 0.0}},
    **{"logistic": {"c": 0.1}, "svm": {"c": 0.1}, "ridge": {"alpha": 10.0}, "prototype": {}},
    "knn": {"neighbours": 10_000},
}


def recipe_of(name: str) -> Head:
    return dataclasses.replace(HEADS[name], **RECIPES[name])


def changed(data: HeadData, **changes) -> HeadData:
    """Return the data with other examples, standardized as before."""
    return HeadData(dataclasses.replace(data.examples, **changes), standardize_by=data.moments)


def logits_of(name: str, data: HeadData) -> np.ndarray:
    module = importlib.import_module(HEADS[name].module)
    return module.predict_logits(recipe_of(name), [{}], data)[0][0]


@pytest.fixture
def imbalanced(overlapping) -> HeadData:
    """Four overlapping classes of 60, 30, 12 and 3 training rows."""
    rows, labels = overlapping.examples.train, overlapping.train_labels
    counts = (60, 30, 12, 3)
    train = np.sort(np.concatenate([rows[labels == label][:count] for label, count in enumerate(counts)]))
    return changed(overlapping, train=train)


@pytest.mark.parametrize(
    "name", [pytest.param("dense", marks=pytest.mark.slow), *sorted(RECIPES.keys() - {"dense"})]
)
def test_every_kind_of_head_treats_weights_as_repeated_rows(overlapping, name):
    train = overlapping.examples.train
    weighted = logits_of(name, changed(overlapping, weights=TIMES.astype(np.float32)))
    repeated = logits_of(name, changed(overlapping, train=np.repeat(train, TIMES[train])))
    np.testing.assert_allclose(weighted, repeated, atol=0.05 if name in ("logistic", "svm") else 1e-3)
    assert np.abs(weighted - logits_of(name, overlapping)).max() > 0.05


@pytest.mark.parametrize("name", ["knn", "logistic"])
def test_a_fitted_head_predicts_what_its_sweep_scored(overlapping, name):
    data = changed(overlapping, weights=TIMES.astype(np.float32), balanced=True)
    model = importlib.import_module(HEADS[name].module).fit(recipe_of(name), data)
    rows = data.examples.inputs[data.examples.val]
    np.testing.assert_allclose(model(rows, training=False).numpy(), logits_of(name, data), atol=0.02)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_path_treats_weights_as_repeated_rows_up_to_weak_penalties(overlapping, loss):
    rows, labels, times = overlapping.train, overlapping.train_labels, TIMES[overlapping.examples.train]
    options = {"classes": 4, "loss": loss, "inverse_penalties": [1e-4, 1e-2, 1.0, 100.0], "tolerance": 1e-6}
    weighted = solve_path(rows, labels, times.astype(np.float32), **options)
    repeated = solve_path(np.repeat(rows, times, axis=0), np.repeat(labels, times), **options)
    for one, other in zip(weighted[:2], repeated[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)


def test_a_path_of_weighted_penalties_equals_penalties_solved_alone(imbalanced):
    data = changed(imbalanced, balanced=True)
    module, values = importlib.import_module(HEADS["logistic"].module), [1.0, 1e-4, 1e-2]
    together = module.predict_logits(HEADS["logistic"], [{"c": c} for c in values], data)
    for c, logits in zip(values, together, strict=True):
        alone = module.predict_logits(HEADS["logistic"], [{"c": c}], data)[0]
        np.testing.assert_allclose(logits, alone, atol=1e-3)


@pytest.mark.parametrize("c", [1e-3, 0.1, 10.0])
def test_balanced_logistic_regression_is_scikit_learns(imbalanced, c):
    recipe = dataclasses.replace(HEADS["logistic"], c=c)
    data = changed(imbalanced, balanced=True)
    model = fit_head(recipe, data)
    reference = LogisticRegression(C=c, class_weight="balanced", tol=1e-8, max_iter=10_000)
    reference.fit(data.train.astype(np.float64), data.train_labels)
    inputs = data.examples.inputs[data.examples.val]
    np.testing.assert_allclose(model(inputs).numpy(), reference.predict_proba(data.val), atol=1e-3)


def test_a_balanced_ridge_classifier_is_scikit_learns(imbalanced):
    data = changed(imbalanced, balanced=True)
    reference = RidgeClassifier(alpha=10.0, class_weight="balanced")
    reference.fit(data.train.astype(np.float64), data.train_labels)
    np.testing.assert_allclose(logits_of("ridge", data), reference.decision_function(data.val), atol=1e-3)


def test_balanced_weights_are_scikit_learns_and_count_rows_by_their_own_weights(imbalanced):
    examples = imbalanced.examples
    weights = dataclasses.replace(examples, balanced=True).loss_weights[examples.train]
    expected = compute_sample_weight("balanced", examples.labels[examples.train])
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    own = dataclasses.replace(examples, balanced=True, weights=TIMES.astype(np.float32))
    repeated = np.repeat(examples.train, TIMES[examples.train])
    expected = dataclasses.replace(examples, balanced=True, train=repeated).loss_weights
    np.testing.assert_allclose(own.loss_weights, expected * TIMES, rtol=1e-6)


@pytest.mark.parametrize("name", ["ridge", "logistic", "prototype"])
def test_views_share_the_weights_of_their_image(imbalanced, name):
    one = changed(imbalanced, balanced=True)
    two = changed(one, inputs=np.concatenate([one.examples.inputs] * 2), views=2)
    np.testing.assert_allclose(logits_of(name, two), logits_of(name, one), atol=2e-3)


def test_neighbors_without_weight_give_no_votes(overlapping):
    data = changed(overlapping, weights=np.zeros(320, np.float32) + (np.arange(320) == 0))
    assert np.isfinite(logits_of("knn", data)).all()


def test_weights_that_are_all_zero_are_an_error(overlapping):
    with pytest.raises(BadInput, match="expected a training image with a weight above 0"):
        changed(overlapping, weights=np.zeros(320, np.float32))
