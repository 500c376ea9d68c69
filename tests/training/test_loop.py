"""The training loop is bitwise reproducible, trains on training rows only, and stops when it diverges."""

from __future__ import annotations

import dataclasses
import math
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import picture_classifier, rows_without_seconds

from pipeline import numerics
from pipeline.errors import Diverged
from pipeline.features.store import MappedRows
from pipeline.networks.build import add_block, add_classifier
from pipeline.notation import parse_block
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.runs.result import HISTORY_COLUMNS
from pipeline.training import loop
from pipeline.training.classifier import Classifier, evaluation_batch
from pipeline.training.examples import Examples
from pipeline.training.feed import prefetch
from pipeline.training.history import History
from pipeline.training.loop import fit
from pipeline.training.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer
from pipeline.training.stage import Stage
from pipeline.training.weight_copies import Lookahead


def linear_classifier() -> Classifier:
    features = keras.Input((4,))
    return Classifier(keras.Model(features, add_classifier(features, 3)))


def toy_classifier() -> Classifier:
    features = keras.Input((4,))
    x = add_block(features, parse_block("dense", dense=True), name="dense1", width=8, dropout=0.0)
    return Classifier(keras.Model(features, add_classifier(x, 3)))


def trained(build, examples: Examples, *stages: Stage, seed: int = 0) -> tuple[Classifier, History]:
    """Train a new classifier through some stages; return it and its history."""
    numerics.configure(seed=seed, precision="float32")
    classifier, history = build(), History()
    for stage in stages:
        fit(classifier, examples, stage, seed=seed, history=history)
    return classifier, history


def weights_of(classifier: Classifier) -> bytes:
    return b"".join(array.tobytes() for array in classifier.model.get_weights())


def cross_entropy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return float(-(targets * np.log(probabilities.astype(np.float64))).sum(axis=1).mean())


@pytest.mark.parametrize("report_seconds", [0.0, 100.0])
def test_the_same_seed_gives_the_same_weights_and_history_at_any_call_length(
    pictures, make_stage, monkeypatch, report_seconds
):
    stage = make_stage(epochs=3, batch_size=2, flip=True, shift=2, weight_decay=0.1, label_smoothing=0.1)
    first, first_history = trained(picture_classifier, pictures, stage)
    monkeypatch.setattr(loop, "REPORT_SECONDS", report_seconds)  # one step per call, or ever more
    second, second_history = trained(picture_classifier, pictures, stage)
    assert weights_of(first) == weights_of(second)
    assert rows_without_seconds(first_history) == rows_without_seconds(second_history)


def test_another_seed_gives_different_weights_and_history(toy, make_stage):
    first, second = (trained(toy_classifier, toy, make_stage(), seed=seed) for seed in (0, 1))
    assert weights_of(first[0]) != weights_of(second[0])
    assert rows_without_seconds(first[1]) != rows_without_seconds(second[1])


def test_the_seed_determines_the_permutation_of_the_rows(toy, make_stage):
    initial = toy_classifier()
    results = []
    for seed in (0, 0, 1):
        copy = toy_classifier()
        copy.model.set_weights(initial.model.get_weights())
        fit(copy, toy, make_stage(), seed=seed, history=History())
        results.append(weights_of(copy))
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("lr_schedule", SCHEDULES)
def test_the_loss_falls_on_a_linearly_separable_problem(toy, make_stage, optimizer, lr_schedule):
    stage = make_stage(epochs=8, optimizer=optimizer, lr_schedule=lr_schedule, warmup=0.1, learning_rate=0.03)
    _, history = trained(toy_classifier, toy, stage)
    first, last = history.rows[0], history.rows[-1]
    assert last["train_loss"] < 0.3 * first["train_loss"]
    assert last["train_accuracy"] == last["val_accuracy"] == 1.0


def test_history_has_one_row_per_epoch_over_all_stages(toy, make_stage):
    stages = make_stage("top", epochs=2, learning_rate=0.02), make_stage("blocks", epochs=3, salt=1)
    classifier, history = trained(toy_classifier, toy, *stages)
    assert [set(row) for row in history.rows] == [set(HISTORY_COLUMNS)] * 5
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4, 5]
    assert [row["stage"] for row in history.rows] == ["top"] * 2 + ["blocks"] * 3
    assert [row["learning_rate"] for row in history.rows] == pytest.approx([0.02] * 2 + [0.01] * 3)
    seconds = [row["seconds"] for row in history.rows]
    assert seconds[0] > 0
    assert seconds == sorted(seconds)
    loss, accuracy = classifier.evaluate(toy, toy.val)
    assert (history.rows[-1]["val_loss"], history.rows[-1]["val_accuracy"]) == (loss, accuracy)


def test_a_row_of_several_epochs_has_their_means_and_the_weights_do_not_depend_on_rows(toy, make_stage):
    stage = make_stage(epochs=7)
    each, rows = trained(toy_classifier, toy, stage)
    some, few_rows = trained(toy_classifier, toy, dataclasses.replace(stage, epochs_per_row=3))
    assert weights_of(each) == weights_of(some)
    assert [row["epoch"] for row in few_rows.rows] == [3, 6, 7]
    losses = [row["train_loss"] for row in rows.rows]
    expected = [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]]
    assert [row["train_loss"] for row in few_rows.rows] == pytest.approx(expected)
    assert few_rows.rows[1]["val_loss"] == rows.rows[5]["val_loss"]


def test_stretched_epochs_are_evaluated_as_often_as_the_recipe_has_epochs():
    recipe = dataclasses.replace(SCRATCH_RECIPES["lesson"], epochs=10)
    assert Stage.of(recipe, "blocks", epochs=671).epochs_per_row == 68
    assert Stage.of(recipe, "blocks", epochs=10).epochs_per_row == 1
    assert Stage.of(recipe, "blocks", epochs=0).epochs_per_row == 1


def test_val_rows_are_never_trained_on(toy, make_stage):
    inputs, labels = toy.inputs.copy(), toy.labels.copy()
    inputs[toy.val], labels[toy.val] = 100.0, 0
    changed = dataclasses.replace(toy, inputs=inputs, labels=labels)
    (first, before), (second, after) = (
        trained(toy_classifier, examples, make_stage(epochs=2)) for examples in (toy, changed)
    )
    assert weights_of(first) == weights_of(second)
    assert before.rows[-1]["train_loss"] == after.rows[-1]["train_loss"]
    assert before.rows[-1]["val_loss"] != after.rows[-1]["val_loss"]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_an_epochs_loss_is_the_mean_over_all_training_rows_with_smoothed_labels(toy, make_stage, smoothing):
    stage = make_stage(learning_rate=0.0, label_smoothing=smoothing)
    classifier, history = trained(toy_classifier, toy, stage)
    probabilities = classifier.predict(toy.inputs, toy.train)
    targets = np.eye(3)[toy.labels[toy.train]]
    smoothed = (1 - smoothing) * targets + smoothing / 3
    row = history.rows[0]
    assert row["train_loss"] == pytest.approx(cross_entropy(probabilities, smoothed), rel=1e-5)
    assert row["train_accuracy"] == (probabilities.argmax(axis=1) == toy.labels[toy.train]).mean()


def full_batch(examples: Examples, stage: Stage) -> tuple[list[np.ndarray], list[float]]:
    """Train the same new network with one step per epoch; return its weights and its losses."""
    keras.utils.set_random_seed(0)
    classifier, history = trained(toy_classifier, examples, stage)
    return classifier.model.get_weights(), [row["train_loss"] for row in history.rows]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_weight_is_the_number_of_times_that_a_row_comes(toy, make_stage, optimizer):
    times = np.arange(48) % 4
    stage = make_stage(epochs=6, batch_size=8192, optimizer=optimizer, label_smoothing=0.1)
    weighted = full_batch(dataclasses.replace(toy, weights=times.astype(np.float32)), stage)
    repeated = full_batch(dataclasses.replace(toy, train=np.repeat(toy.train, times[toy.train])), stage)
    for one, other in zip([*weighted[0], weighted[1]], [*repeated[0], repeated[1]], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert weighted[1] != full_batch(toy, stage)[1]


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_equal_weights_of_any_size_change_nothing(toy, make_stage, mixup):
    stage = make_stage(epochs=3, mixup=mixup)
    losses = [
        full_batch(dataclasses.replace(toy, weights=weights), stage)[1]
        for weights in (None, np.full(48, 7, np.float32))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_mixup_mixes_the_weights_with_the_targets(toy, make_stage):
    weights = (toy.labels == 0).astype(
        np.float32
    )  # the loss of class 1 does not count wherever it is mixed in
    examples, stage = dataclasses.replace(toy, weights=weights), make_stage(batch_size=36, mixup=1.0)
    classifier, history = linear_classifier(), History()
    logits = classifier.model.get_layer("logits")
    logits.set_weights([np.zeros_like(logits.kernel), np.float32([0, -30, 0])])
    fit(classifier, examples, stage, seed=0, history=history)
    assert 0.5 * math.log(2) < history.rows[0]["train_loss"] < 1.5 * math.log(2)


def test_loss_and_accuracy_match_a_direct_computation(toy, monkeypatch):
    monkeypatch.setattr(
        "pipeline.training.classifier.EVALUATION_BATCH", 5
    )  # 12 val rows: two batches and a remainder
    classifier = toy_classifier()
    probabilities = classifier.predict(toy.inputs, toy.val)
    np.testing.assert_allclose(probabilities, classifier.model(toy.inputs[toy.val]), rtol=1e-6)
    targets = np.eye(3)[toy.labels[toy.val]]
    loss, accuracy = classifier.evaluate(toy, toy.val)
    assert loss == pytest.approx(cross_entropy(probabilities, targets), rel=1e-6)
    assert accuracy == (probabilities.argmax(axis=1) == toy.labels[toy.val]).mean()


def test_a_wrong_prediction_with_probability_one_has_a_finite_loss(toy):
    classifier = toy_classifier()
    classifier.model.get_layer("logits").bias.assign([0.0, 1000.0, 0.0])
    loss, _ = classifier.evaluate(toy, toy.val[toy.labels[toy.val] != 1])
    assert loss == pytest.approx(-math.log(np.finfo(np.float32).tiny))


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (linear_classifier, "the loss is nan"),
        (toy_classifier, "(the loss is nan|weights are not finite numbers)"),  # a fused ReLU hides NaN
    ],
)
def test_a_nan_input_stops_the_training(toy, make_stage, build, problem):
    inputs = toy.inputs.copy()
    inputs[toy.train[5], 2] = np.nan
    message = f"^top: {problem} in epoch 1; try a learning rate below 0.01, or a longer warmup$"
    with pytest.raises(Diverged, match=message):
        trained(build, dataclasses.replace(toy, inputs=inputs), make_stage("top"))


def test_a_diverging_learning_rate_stops_the_training(toy, make_stage):
    stage = make_stage(epochs=5, learning_rate=1e30, optimizer="sgd")
    message = r"^blocks: .* in epoch \d; try a learning rate below 1e\+30, or a longer warmup$"
    with pytest.raises(Diverged, match=message):
        trained(toy_classifier, toy, stage)


def test_a_batch_size_above_the_data_size_uses_all_of_the_data(toy, make_stage):
    equal, larger = (trained(toy_classifier, toy, make_stage(batch_size=size)) for size in (36, 8192))
    assert weights_of(equal[0]) == weights_of(larger[0])
    assert larger[1].rows[0]["train_loss"] > 0


def test_zero_epochs_do_not_change_the_weights(toy, make_stage):
    before, _ = trained(toy_classifier, toy)
    after, history = trained(toy_classifier, toy, make_stage(epochs=0))
    assert weights_of(before) == weights_of(after)
    assert history.rows == []


def test_progress_counts_every_step(toy, make_stage):
    reports = []
    fit(
        toy_classifier(),
        toy,
        make_stage("top", epochs=2),
        seed=0,
        history=History(),
        progress=lambda *report: reports.append(report),
    )
    assert reports[-1] == ("top, epoch 2/2", 18, 18, "steps")
    assert [done for _, done, _, _ in reports] == sorted({done for _, done, _, _ in reports})


def test_a_stage_has_the_settings_of_a_recipe_with_changes():
    recipe = dataclasses.replace(SCRATCH_RECIPES["lesson"], shift=5, label_smoothing=0.2)
    stage = Stage.of(recipe, "blocks", epochs=7, salt=1)
    assert (stage.name, stage.epochs, stage.salt) == ("blocks", 7, 1)
    assert (stage.flip, stage.shift, stage.label_smoothing) == (recipe.flip, 5, 0.2)
    assert stage.learning_rate == recipe.learning_rate


def test_the_cosine_schedule_warms_up_and_ends_at_zero():
    rates = [float(SCHEDULES["cosine"](0.4, 100, 20)(step)) for step in range(101)]
    assert rates[:21] == pytest.approx(np.linspace(0, 0.4, 21))
    assert rates[60] == pytest.approx(0.2)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_the_cosine_schedule_without_warmup_starts_at_the_full_rate():
    rate = SCHEDULES["cosine"](0.4, 100, 0)
    assert [float(rate(step)) for step in (0, 50, 100)] == pytest.approx([0.4, 0.2, 0.0], rel=1e-6, abs=1e-9)


def test_the_constant_schedule_is_constant_after_warmup():
    assert {float(SCHEDULES["constant"](0.5, 100, 0)(step)) for step in range(101)} == {0.5}
    rates = [float(SCHEDULES["constant"](0.5, 100, 10)(step)) for step in range(101)]
    assert rates[0] < 0.5
    assert set(rates[11:]) == {0.5}


def test_a_training_follows_its_schedule_to_the_end(toy, make_stage):
    _, history = trained(toy_classifier, toy, make_stage(epochs=4, lr_schedule="cosine", warmup=0.25))
    rates = [row["learning_rate"] for row in history.rows]
    assert rates[0] == pytest.approx(0.01)  # the warmup is the first of four epochs
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_applies_to_kernels_but_not_to_biases_and_norms(make_stage, optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.set_weights([np.ones_like(array) for array in model.get_weights()])
    weights = model.trainable_variables
    optimizer = make_optimizer(make_stage(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5), 10)
    optimizer.apply([keras.ops.zeros_like(weight) for weight in weights], weights)
    after = {weight.name: np.unique(weight.numpy()).tolist() for weight in weights}
    assert after.pop("kernel") == pytest.approx([1 - 0.1 * 0.5])
    assert after == {"bias": [1.0], "gamma": [1.0], "beta": [1.0]}


def test_fused_adamw_matches_keras(make_stage, monkeypatch):
    def train():
        draws = np.random.default_rng(0)
        weights = [keras.Variable(draws.normal(size=shape).astype(np.float32)) for shape in ((40, 30), (30,))]
        multipliers = {weights[0].path: lambda number: 0.5}
        stage = make_stage(optimizer="adamw", lr_schedule="cosine", warmup=0.2, weight_decay=0.1)
        optimizer = make_optimizer(stage, 20, multipliers=multipliers)
        for _ in range(20):
            gradients = [draws.normal(size=weight.shape).astype(np.float32) for weight in weights]
            optimizer.apply(gradients, weights)
        return [weight.numpy() for weight in (*weights, *optimizer._momentums, *optimizer._velocities)]

    fused = train()
    monkeypatch.setitem(OPTIMIZERS, "adamw", keras.optimizers.AdamW)
    for array, expected in zip(fused, train(), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)


def test_the_triangle_schedule_starts_at_20_percent_peaks_after_warmup_and_ends_at_7_percent():
    rates = [float(SCHEDULES["triangle"](2.0, 100, 20)(step)) for step in range(101)]
    assert rates[:21] == pytest.approx(np.linspace(0.4, 2.0, 21))
    assert rates[20:] == pytest.approx(np.linspace(2.0, 0.14, 81))


def test_a_multiplier_scales_the_learning_rate_of_its_variable(make_stage):
    first, second, frozen = (keras.Variable(np.ones(2, np.float32), name=name) for name in ("a", "b", "c"))
    multipliers = {second.path: lambda number: 3.0, frozen.path: lambda number: 0.0}
    optimizer = make_optimizer(
        make_stage(optimizer="sgd", learning_rate=0.1, momentum=0.0), 10, multipliers=multipliers
    )
    optimizer.apply([np.ones(2, np.float32)] * 3, [first, second, frozen])
    values = [keras.ops.convert_to_numpy(variable) for variable in (first, second, frozen)]
    np.testing.assert_allclose(values, [[0.9] * 2, [0.7] * 2, [1.0] * 2], rtol=1e-6)


def test_lookahead_averages_every_five_updates_and_leaves_the_slow_weights_at_the_end():
    network = toy_classifier().model
    average = Lookahead(network, 10)
    slow = network.get_weights()
    for number in range(1, 8):
        network.set_weights([array + 1 for array in network.get_weights()])
        expected = network.get_weights()
        average.after_update(tf.constant(number))
        if number == 5:
            decay = 0.95**5 * 0.5**3
            slow = [decay * old + (1 - decay) * new for old, new in zip(slow, expected, strict=True)]
            expected = slow
        for array, expected_array in zip(network.get_weights(), expected, strict=True):
            np.testing.assert_allclose(array, expected_array, rtol=1e-5)
    average.finish()
    for array, expected_array in zip(network.get_weights(), slow, strict=True):
        np.testing.assert_allclose(array, expected_array, rtol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_inputs_from_files_give_the_same_weights_as_inputs_in_memory(pictures, make_stage, tmp_path, cached):
    views = 2 if cached else 1
    inputs = np.concatenate([pictures.inputs, pictures.inputs[:, :, ::-1]][:views])
    np.save(tmp_path / "one.npy", inputs[:5])
    np.save(tmp_path / "two.npy", inputs[5:])
    parts = [np.load(tmp_path / name, mmap_mode="r") for name in ("one.npy", "two.npy")]
    stage, results = make_stage(epochs=2, flip=True, batch_size=8), []
    for source in (inputs, MappedRows(parts)):
        examples = dataclasses.replace(pictures, inputs=source, cached_augmentation=cached)
        results.append(weights_of(trained(picture_classifier, examples, stage)[0]))
    assert results[0] == results[1]


def test_the_next_value_is_gathered_while_one_is_in_use():
    started = []

    def gather(number: int) -> int:
        started.append(number)
        return number

    values = prefetch(gather(number) for number in range(3))
    assert next(values) == 0
    time.sleep(0.2)
    assert started == [0, 1]
    assert list(values) == [1, 2]


@pytest.mark.parametrize(
    ("shape", "input_size", "count"),
    [
        ((1472,), 0, 500),
        ((32, 32, 3), 32, 500),
        ((32, 32, 3), 224, 10),
        ((224, 224, 3), 0, 10),
        ((14, 14, 512), 0, 348),
    ],
)
def test_fewer_large_inputs_are_evaluated_at_once(shape, input_size, count):
    assert evaluation_batch(shape, input_size) == count
