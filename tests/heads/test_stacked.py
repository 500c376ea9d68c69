"""Heads that are trained together are updated as each would be alone, and as Keras updates them."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import BadInput
from pipeline.heads.calibration import with_probabilities
from pipeline.heads.data import HeadData
from pipeline.heads.network import build_head
from pipeline.heads.stacked import CHEAP_OUTPUTS, _dropout, _product_by_head, _Stack, train_stack
from pipeline.recipes.heads import HEADS, NetworkHead
from pipeline.training.classifier import Classifier
from pipeline.training.history import History
from pipeline.training.loop import fit
from pipeline.training.stage import Stage

CLOSE = 2e-3  # between logits of about 5 after 21 steps in float32


def recipe_of(text: str = "dense", units: tuple[int, ...] = (), **changes) -> NetworkHead:
    """Return a recipe of 21 steps that uses everything that changes weights except dropout."""
    plain = {
        **{"dense_blocks": text, "units": units, "dropout": 0.0, "epochs": 3, "batch_size": 32},
        **{"learning_rate": 0.03, "weight_decay": 0.3, "label_smoothing": 0.1, "warmup": 0.2},
    }
    return dataclasses.replace(HEADS["linear"], **{**plain, **changes})


def keras_logits(recipe: NetworkHead, data: HeadData) -> np.ndarray:
    """Return the val logits of a Keras model with a stack's initial weights and batches."""
    stack = _Stack(recipe, [{}], data, None, "float32")
    model = build_head(data, recipe.dense_blocks, recipe.units, recipe.dropout)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer, twin in zip(dense, stack.layers, strict=True):
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
def test_a_head_is_updated_as_kerass_optimizer_updates_the_same_model(
    overlapping, text, units, optimizer, lr_schedule
):
    recipe = recipe_of(text, units, optimizer=optimizer, lr_schedule=lr_schedule)
    logits = train_stack(recipe, [{}], overlapping)
    assert logits.shape == (80, 1, 4)
    assert logits.std() > 0.5
    np.testing.assert_allclose(logits[:, 0], keras_logits(recipe, overlapping), atol=CLOSE)


def test_a_stack_also_trains_for_more_epochs_when_labels_are_few(overlapping):
    few = HeadData(dataclasses.replace(overlapping.examples, train=np.arange(60), share=0.25))
    recipe, reports = recipe_of(stretch=True), []
    logits = train_stack(recipe, [{}], few, progress=lambda *report: reports.append(report))
    assert reports[-1][1:3] == (6, 6)  # three epochs of one step, twice as many for a quarter of the labels
    np.testing.assert_allclose(logits[:, 0], keras_logits(recipe, few), atol=CLOSE)


@pytest.mark.parametrize(
    ("text", "units", "optimizer"), [("dense", (), "adamw"), ("dense - dropout - dense", (8,), "sgd")]
)
def test_heads_trained_together_match_heads_trained_alone(overlapping, text, units, optimizer):
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


def test_the_same_points_give_the_same_logits_and_another_seed_others(overlapping):
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
    stack.update_function(updates=21)(*stack.gather(np.arange(224).reshape(7, 32)))
    kernel = stack.layers[0].kernel.numpy().reshape(10, 2, 6)
    assert (kernel[~masks] == 0).all()
    assert (kernel[masks] != 0).all()


def test_a_masked_head_is_initialized_like_one_that_has_only_its_features(overlapping):
    masks = np.zeros((10, 1), bool)
    masks[:2] = True
    kernel = _Stack(recipe_of(units=(50,)), [{}], overlapping, masks, "float32").layers[0].kernel.numpy()
    limit = np.sqrt(6 / (2 + 50))
    assert 0.9 * limit < np.abs(kernel).max() <= limit


@pytest.mark.parametrize("units", [(), (8,)])
def test_a_head_that_diverges_has_nan_logits_and_does_not_affect_the_others(overlapping, units):
    recipe = recipe_of("dense", units, optimizer="sgd")
    points = [{"learning_rate": 0.01}, {"learning_rate": 1e30}, {"learning_rate": 0.02}]
    logits = train_stack(recipe, points, overlapping)
    assert not np.isfinite(logits[:, 1]).any()
    others = train_stack(recipe, [points[0], points[2]], overlapping)
    np.testing.assert_allclose(logits[:, ::2], others, atol=CLOSE)


def test_views_are_drawn_and_all_get_logits(overlapping, with_equal_views):
    recipe = recipe_of(epochs=1)  # later permutations depend on whether views were drawn
    once, twice = (train_stack(recipe, [{}], data) for data in (overlapping, with_equal_views(overlapping)))
    assert twice.shape == (160, 1, 4)
    assert np.array_equal(twice[:80], twice[80:])
    np.testing.assert_allclose(twice[:80], once, atol=CLOSE)


def test_products_in_bfloat16_give_nearly_the_same_head(overlapping):
    precisions = ("float32", "bfloat16")
    exact, rounded = (train_stack(recipe_of(), [{}], overlapping, precision=p) for p in precisions)
    assert exact.dtype == rounded.dtype == np.float32
    assert 0 < np.abs(exact - rounded).max() < 0.1


@pytest.mark.parametrize("text", ["dropout - dense", "batch norm - dense - relu"])
def test_a_block_that_does_not_begin_with_dense_is_rejected(overlapping, text):
    word = text.partition(" - ")[0]
    with pytest.raises(BadInput, match=f"expected dense blocks that start with dense.*starts with {word}"):
        train_stack(recipe_of(text, (8,)), [{}], overlapping)


def test_zero_epochs_leave_the_initial_weights_unchanged(overlapping):
    recipe = recipe_of(epochs=0)
    initial = _Stack(recipe, [{}], overlapping, None, "float32").layers[0].kernel.numpy()
    logits = train_stack(recipe, [{}], overlapping)[:, 0]
    np.testing.assert_allclose(logits, overlapping.val @ initial, atol=1e-5)


def test_progress_counts_every_step(overlapping):
    reports = []
    train_stack(recipe_of(), [{}, {}], overlapping, progress=lambda *report: reports.append(report))
    assert reports[-1] == ("2 heads at once", 21, 21, "steps")


def test_dropout_matches_each_heads_rate_and_keeps_the_mean():
    rates = np.float32([0.0, 0.3, 0.9])
    draws = tf.random.stateless_uniform((500, 1, 40), [0, 1])
    dropped = _dropout(tf.ones((500, 3, 40)), draws, rates).numpy()
    np.testing.assert_allclose((dropped == 0).mean(axis=(0, 2)), rates, atol=0.01)
    np.testing.assert_allclose(dropped.mean(axis=(0, 2)), 1, atol=0.05)
    np.testing.assert_allclose(dropped.max(axis=(0, 2)), 1 / (1 - rates), rtol=1e-5)


@pytest.mark.parametrize("outputs", [3, CHEAP_OUTPUTS, CHEAP_OUTPUTS + 1])
def test_the_product_by_head_and_its_gradients_match_einsum(outputs):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(7, 4, 5)), tf.float32)
    kernel = tf.constant(rng.normal(size=(4, 5, outputs)), tf.float32)
    weight = tf.constant(rng.normal(size=(7, 4, outputs)), tf.float32)
    results = []
    for product in (_product_by_head, lambda x, kernel: tf.einsum("bkh,khg->bkg", x, kernel)):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            output = product(x, kernel)
            loss = tf.reduce_sum(weight * output)
        results.append([output, *tape.gradient(loss, [x, kernel])])
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)
