"""Heads of features that are mapped from a file are those of the same features in memory."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.features.store import FeatureStore
from pipeline.heads import data as head_data
from pipeline.heads import fit, neighbours, penalised
from pipeline.heads.data import HeadData, MappedFeatures, blocks, moments, scatter
from pipeline.heads.fit import HeadDataLoader, fit_head
from pipeline.progress import silent
from pipeline.recipes.heads import HEADS
from pipeline.schemes.head import train_head
from pipeline.training.classifier import Classifier
from pipeline.training.history import Clock, History
from pipeline.training.job import Job

LAYERS = ("block1_pool", "block2_pool")
TWO_VIEWS = ("identity", "hflip")
POINTS = {
    "linear": [{"learning_rate": 0.01}, {"weight_decay": 1.0}],
    "dense-bn": [{"dropout": 0.1}],
    "ridge": [{"alpha": 1.0}, {"alpha": 100.0}],
    "logistic": [{"c": 1e-2}, {"c": 1.0}, {"c": 100.0}],
    "svm": [{"c": 1e-2}],
    "knn": [{"neighbours": 1}, {"neighbours": 30}],
    "prototype": [{}],
}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few rows, so that the examples take many of them."""
    monkeypatch.setattr(head_data, "BLOCK_ROWS", 50)
    monkeypatch.setattr(penalised, "ROWS", 50)
    monkeypatch.setattr(neighbours, "QUERIES", 30)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 50)


@pytest.fixture
def mapped(overlapping, with_equal_views, tmp_path) -> HeadData:
    """The overlapping classes with two views that differ, mapped from a file."""
    examples = with_equal_views(overlapping).examples
    inputs = examples.inputs.copy()
    inputs[len(inputs) // 2 :] *= np.float32(1.1)
    inputs.tofile(tmp_path / "features")
    inputs = np.memmap(tmp_path / "features", np.float32, "r", shape=inputs.shape)
    return HeadData(dataclasses.replace(examples, inputs=inputs))


@pytest.fixture
def in_memory(mapped) -> HeadData:
    """The same data in memory."""
    return HeadData(dataclasses.replace(mapped.examples, inputs=np.array(mapped.examples.inputs)))


def test_mapped_rows_are_read_in_slices_and_equal_those_in_memory(mapped, in_memory, small_blocks):
    for rows, expected in ((mapped.train, in_memory.train), (mapped.val, in_memory.val)):
        assert isinstance(rows, MappedFeatures)
        assert rows.shape == expected.shape
        assert np.array_equal(rows[:], expected)
        assert np.array_equal(rows[np.array([5, 0, 5])], expected[[5, 0, 5]])
        parts = [part for _, part in blocks(rows)]
        assert [len(part) for part in parts[:-1]] == [50] * (len(rows) // 50)
        assert np.array_equal(np.concatenate(parts), expected)
    rows = mapped.examples.val
    assert np.array_equal(mapped.raw(rows)[:], in_memory.raw(rows))


def test_moments_and_scatter_in_blocks_match_numpy_on_all_rows(mapped, small_blocks):
    raw = mapped.raw(mapped.examples.train)
    values = raw[:].astype(np.float64)
    mean, variance = moments(raw)
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, values.var(axis=0), rtol=1e-6)
    rows = mapped.train[:].astype(np.float64)
    weights = (1 + np.arange(len(rows)) % 3).astype(np.float32)
    mean, products = scatter(mapped.train, weights)
    np.testing.assert_allclose(mean, np.average(rows, axis=0, weights=weights), atol=1e-6)
    expected = np.cov(rows.T, bias=True, aweights=weights) * weights.sum()
    np.testing.assert_allclose(products, expected, atol=1e-3)


@pytest.mark.parametrize("name", POINTS)
def test_a_sweep_of_mapped_features_gives_the_logits_of_features_in_memory(
    mapped, in_memory, small_blocks, name
):
    recipe = HEADS[name]
    if name in ("linear", "dense-bn"):  # several calls of the graph in an epoch, each with rows of its own
        recipe = dataclasses.replace(recipe, epochs=2, batch_size=8)
    module = importlib.import_module(recipe.module)
    both = [module.predict_logits(recipe, POINTS[name], data) for data in (mapped, in_memory)]
    for logits, expected in zip(*both, strict=True):
        assert logits.shape == (2, 80, 4)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.abs(both[0][0]).max() > 0.1


@pytest.mark.parametrize("name", ["linear", "ridge", "knn"])
def test_a_head_of_mapped_features_predicts_as_one_of_features_in_memory(mapped, in_memory, name):
    recipe, predictions = HEADS[name], []
    for data in (mapped, in_memory):
        options = {}
        if name == "linear":
            recipe = dataclasses.replace(recipe, epochs=4, batch_size=16)
            options = {"seed": 1, "history": History()}
            keras.utils.set_random_seed(0)
        model, examples = fit_head(recipe, data, **options), data.examples
        predictions.append(Classifier(model).predict(examples.inputs, examples.val, examples.views))
    np.testing.assert_allclose(*predictions, atol=1e-5)
    assert (predictions[0].argmax(axis=1) == mapped.val_labels).mean() > 0.5


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_blocks_of_rows_give_the_path_that_all_rows_give(overlapping, monkeypatch, name):
    recipe, points = HEADS[name], [{"c": c} for c in (1e-4, 1e-2, 1.0)]
    module = importlib.import_module(recipe.module)
    whole = module.predict_logits(recipe, points, overlapping)
    monkeypatch.setattr(penalised, "ROWS", 7)
    in_blocks = module.predict_logits(recipe, points, overlapping)
    np.testing.assert_allclose(in_blocks, whole, atol=5e-3)


def test_tiles_of_rows_find_the_neighbors_that_all_rows_give(mapped, in_memory, monkeypatch):
    recipe, points = HEADS["knn"], [{"neighbours": count} for count in (1, 3, 70, 10_000)]
    whole = neighbours.predict_logits(recipe, points, in_memory)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 64)  # fewer rows than neighbors are asked for
    np.testing.assert_allclose(neighbours.predict_logits(recipe, points, mapped), whole, atol=1e-4)


def test_joined_features_above_the_limit_are_mapped_from_a_file_without_a_name(digits, features, monkeypatch):
    recipe = dataclasses.replace(HEADS["ridge"], views=TWO_VIEWS)
    loader = HeadDataLoader(recipe, FeatureStore(features), ImageStore(digits))
    expected, names = loader(LAYERS), sorted(Path(features).iterdir())
    size = expected.examples.inputs.nbytes
    monkeypatch.setattr(fit, "MEMORY_BYTES", size)
    assert not isinstance(loader(LAYERS).examples.inputs, np.memmap)
    monkeypatch.setattr(fit, "MEMORY_BYTES", size - 1)
    data = loader(LAYERS)
    assert isinstance(data.examples.inputs, np.memmap)
    assert np.array_equal(data.examples.inputs, expected.examples.inputs)
    for ours, theirs in zip(data.moments, expected.moments, strict=True):
        assert np.array_equal(ours, theirs)
    assert sorted(Path(features).iterdir()) == names


def test_a_run_on_mapped_features_predicts_as_one_in_memory(digits, features, monkeypatch):
    images, store = ImageStore(digits), FeatureStore(features)
    recipe = dataclasses.replace(HEADS["logistic"], layers=LAYERS, views=TWO_VIEWS)
    job = Job(recipe, 0, images, store, None, "vgg16", 32, Clock(), silent)
    expected = train_head(job).probabilities
    monkeypatch.setattr(fit, "MEMORY_BYTES", 0)
    np.testing.assert_allclose(train_head(job).probabilities, expected, atol=1e-5)


def test_shards_with_missing_rows_are_refused(digits, features, monkeypatch):
    images = ImageStore(digits)
    images.labels = np.append(images.labels, 0)
    monkeypatch.setattr(fit, "MEMORY_BYTES", 0)
    with pytest.raises(DamagedFile, match=r"expected features of shape \(101, 64\); extract them again"):
        HeadDataLoader(HEADS["ridge"], FeatureStore(features), images)(LAYERS[:1])
