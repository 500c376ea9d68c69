"""Heads that are trained side by side move as each would alone, and as Keras moves them."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import BadInput
from pipeline.heads.data import HeadData
from pipeline.heads.model import with_probabilities
from pipeline.heads.network import build_answers
from pipeline.heads.stacked import CHEAP_OUTPUTS, _dropped, _product_by_head, _Stack, train_stack
from pipeline.recipes.heads import HEADS, NetworkHead
from pipeline.training.classifier import Classifier
from pipeline.training.history import History
from pipeline.training.loop import fit
from pipeline.training.stage import Stage

CLOSE = 2e-3  # between answers of a size of about 5 after 21 steps in float32


def recipe_of(text: str = "dense", units: tuple[int, ...] = (), **changes) -> NetworkHead:
    """Return a recipe of 21 steps without dropout in which all else happens that moves weights."""
    plain = {
        **{"dense_blocks": text, "units": units, "dropout": 0.0, "epochs": 3, "batch_size": 32},
        **{"learning_rate": 0.03, "weight_decay": 0.3, "label_smoothing": 0.1, "warmup": 0.2},
    }
    return dataclasses.replace(HEADS["linear"], **{**plain, **changes})


def kerass_answers(recipe: NetworkHead, data: HeadData) -> np.ndarray:
    """Return the answers on val of a Keras model that began with a stack's weights and saw its batches."""
    start = _Stack(recipe, [{}], data, None, "float32")
    model = build_answers(data, recipe.dense_blocks, recipe.units, recipe.dropout)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer, twin in zip(dense, start.layers, strict=True):
        layer.kernel.assign(tf.reshape(twin.kernel, layer.kernel.shape))
    classifier = Classifier(with_probabilities(model, None))
    stage = Stage.of(recipe, "head", epochs=data.examples.epochs(recipe))
    fit(classifier, data.examples, stage, seed=0, history=History())
    return model(data.examples.inputs[data.examples.val], training=False).numpy()


@pytest.mark.parametrize(
    ("text", "units", "optimizer", "lr_schedule"),
    [
        ("dense", (), "adamw", "cosine"),
        ("dense", (), "sgd", "constant"),
        ("dense - batch norm", (8,), "adamw", "cosine"),
        ("dense - batch norm", (8,), "sgd", "cosine"),
        ("dense - gelu - dense - relu - batch norm", (8, 6), "adamw", "constant"),
    ],
)
def test_a_head_moves_as_kerass_optimiser_moves_the_same_model(
    overlapping, text, units, optimizer, lr_schedule
):
    recipe = recipe_of(text, units, optimizer=optimizer, lr_schedule=lr_schedule)
    found = train_stack(recipe, [{}], overlapping)
    assert found.shape == (80, 1, 4)
    assert found.std() > 0.5
    np.testing.assert_allclose(found[:, 0], kerass_answers(recipe, overlapping), atol=CLOSE)


def test_training_that_stretches_over_few_labels_does_so_in_a_stack_too(overlapping):
    few = HeadData(dataclasses.replace(overlapping.examples, train=np.arange(60), share=0.25))
    recipe, reports = recipe_of(stretch=True), []
    found = train_stack(recipe, [{}], few, progress=lambda *report: reports.append(report))
    assert reports[-1][1:3] == (6, 6)  # three epochs of one step, twice as many for a quarter of the labels
    np.testing.assert_allclose(found[:, 0], kerass_answers(recipe, few), atol=CLOSE)


@pytest.mark.parametrize(
    ("text", "units", "optimizer"), [("dense", (), "adamw"), ("dense - dropout - dense", (8,), "sgd")]
)
def test_heads_together_end_where_each_ends_alone(overlapping, text, units, optimizer):
    points = [
        {"learning_rate": 0.03, "weight_decay": 1.0, "dropout": 0.4},
        {"learning_rate": 0.01, "label_smoothing": 0.5, "dropout": 0.0},
    ]
    recipe = recipe_of(text, units, optimizer=optimizer)
    together = train_stack(recipe, points, overlapping)
    for number, point in enumerate(points):
        alone = train_stack(recipe, [point], overlapping)[:, 0]
        np.testing.assert_allclose(together[:, number], alone, atol=CLOSE)
    assert np.abs(together[:, 0] - together[:, 1]).max() > 0.1


def test_the_same_points_give_the_same_answers_and_another_seed_others(overlapping):
    recipe = recipe_of("dense - dropout", (6,), dropout=0.3)
    first, second = (train_stack(recipe, [{"seed": 0}, {"seed": 1}], overlapping) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.abs(first[:, 0] - first[:, 1]).max() > 0.1


def test_masked_features_never_influence_a_head_and_get_no_weight(overlapping):
    masks = np.ones((10, 2), bool)
    masks[:4, 0] = masks[6:, 1] = False
    inputs = overlapping.examples.inputs.copy()
    inputs[:, :4] = inputs[::-1, :4]
    changed = HeadData(dataclasses.replace(overlapping.examples, inputs=inputs))
    recipe, points = recipe_of(optimizer="sgd"), [{}, {}]
    before, after = (train_stack(recipe, points, data, masks=masks) for data in (overlapping, changed))
    np.testing.assert_allclose(before[:, 0], after[:, 0], atol=CLOSE)
    assert np.abs(before[:, 1] - after[:, 1]).max() > 0.1

    stack = _Stack(recipe_of("dense", (6,)), points, overlapping, masks, "float32")
    stack.update_function(updates=21)(tf.constant(np.arange(224).reshape(7, 32), tf.int32))
    kernel = stack.layers[0].kernel.numpy().reshape(10, 2, 6)
    assert (kernel[~masks] == 0).all()
    assert (kernel[masks] != 0).all()


def test_a_head_that_sees_some_features_begins_as_wide_as_one_that_has_no_others(overlapping):
    masks = np.zeros((10, 1), bool)
    masks[:2] = True
    kernel = _Stack(recipe_of(units=(50,)), [{}], overlapping, masks, "float32").layers[0].kernel.numpy()
    limit = np.sqrt(6 / (2 + 50))
    assert 0.9 * limit < np.abs(kernel).max() <= limit


@pytest.mark.parametrize("units", [(), (8,)])
def test_a_head_that_diverges_answers_nan_and_leaves_the_others_alone(overlapping, units):
    recipe = recipe_of("dense", units, optimizer="sgd")
    points = [{"learning_rate": 0.01}, {"learning_rate": 1e30}, {"learning_rate": 0.02}]
    found = train_stack(recipe, points, overlapping)
    assert not np.isfinite(found[:, 1]).any()
    sound = train_stack(recipe, [points[0], points[2]], overlapping)
    np.testing.assert_allclose(found[:, ::2], sound, atol=CLOSE)


def test_views_are_drawn_and_all_get_an_answer(overlapping, seen_twice):
    recipe = recipe_of(epochs=1)  # in later ones the draws of views move on the order of the images
    once, twice = (train_stack(recipe, [{}], data) for data in (overlapping, seen_twice(overlapping)))
    assert twice.shape == (160, 1, 4)
    assert np.array_equal(twice[:80], twice[80:])
    np.testing.assert_allclose(twice[:80], once, atol=CLOSE)


def test_products_in_bfloat16_train_nearly_the_same_head(overlapping):
    exact, rough = (train_stack(recipe_of(), [{}], overlapping, precision=p) for p in ("float32", "bfloat16"))
    assert exact.dtype == rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.1


@pytest.mark.parametrize("text", ["dropout - dense", "batch norm - dense - relu"])
def test_a_block_that_does_not_begin_with_dense_is_refused(overlapping, text):
    word = text.partition(" - ")[0]
    with pytest.raises(BadInput, match=f"expected dense blocks that begin with dense.*begins with {word}"):
        train_stack(recipe_of(text, (8,)), [{}], overlapping)


def test_no_epochs_leave_the_weights_as_they_were_drawn(overlapping):
    recipe = recipe_of(epochs=0)
    start = _Stack(recipe, [{}], overlapping, None, "float32").layers[0].kernel.numpy()
    found = train_stack(recipe, [{}], overlapping)[:, 0]
    np.testing.assert_allclose(found, overlapping.val @ start, atol=1e-5)


def test_progress_counts_every_step(overlapping):
    reports = []
    train_stack(recipe_of(), [{}, {}], overlapping, progress=lambda *report: reports.append(report))
    assert reports[-1] == ("2 heads at once", 21, 21, "steps")


def test_dropout_drops_about_as_much_as_each_heads_rate_and_keeps_the_mean():
    rates = np.float32([0.0, 0.3, 0.9])
    draws = tf.random.stateless_uniform((500, 1, 40), [0, 1])
    found = _dropped(tf.ones((500, 3, 40)), draws, rates).numpy()
    np.testing.assert_allclose((found == 0).mean(axis=(0, 2)), rates, atol=0.01)
    np.testing.assert_allclose(found.mean(axis=(0, 2)), 1, atol=0.05)
    np.testing.assert_allclose(found.max(axis=(0, 2)), 1 / (1 - rates), rtol=1e-5)


@pytest.mark.parametrize("outputs", [3, CHEAP_OUTPUTS, CHEAP_OUTPUTS + 1])
def test_the_product_by_head_and_its_gradients_are_einsums(outputs):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(7, 4, 5)), tf.float32)
    kernel = tf.constant(rng.normal(size=(4, 5, outputs)), tf.float32)
    weight = tf.constant(rng.normal(size=(7, 4, outputs)), tf.float32)
    found = []
    for product in (_product_by_head, lambda x, kernel: tf.einsum("bkh,khg->bkg", x, kernel)):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            answer = product(x, kernel)
            loss = tf.reduce_sum(weight * answer)
        found.append([answer, *tape.gradient(loss, [x, kernel])])
    for ours, plain in zip(*found, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)
