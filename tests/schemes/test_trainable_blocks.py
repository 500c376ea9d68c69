"""Fine-tuning: trainable blocks, learning-rate multipliers, early stopping, and the warning."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from small_networks import picture_classifier
from small_specs import spec_of

from pipeline import numerics
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import publish_weights, random_arrays, read_weights
from pipeline.errors import BadInput
from pipeline.recipes.schemes import SCHEMES
from pipeline.runs.train import train_run
from pipeline.schemes.fine_tune import block_multipliers, destruction_warning, freeze_blocks, stages_of
from pipeline.storage.layout import RECIPE
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples
from pipeline.training.history import Clock, History
from pipeline.training.loop import fit

RESNET50, VGG16 = BACKBONES["resnet50"], BACKBONES["vgg16"]


def recipe_of(name: str, **changes):
    return SCHEMES["fine-tune"].recipe(name, changes)


def test_gradual_unfreezing_unfreezes_one_more_block_in_each_stage():
    recipe = recipe_of("gradual", epochs=12, unfreeze_epochs=2)
    stages = [(stage.name, stage.epochs, through) for stage, through in stages_of(recipe, 5, 12)]
    before = [(f"blocks from {block}", 2, block - 1) for block in (5, 4, 3, 2)]
    assert stages == [*before, ("blocks", 4, 0)]
    partial = recipe_of("gradual", freeze_through=3)
    assert [through for _, through in stages_of(partial, 5, 12)] == [4, 3]
    assert len({stage.salt for stage, _ in stages_of(recipe, 5, 12)}) == 5  # each has its own permutations


def test_without_it_there_is_one_stage():
    ((stage, through),) = stages_of(recipe_of("whole"), 5, 12)
    assert (stage.name, stage.epochs, stage.patience, through) == ("blocks", 12, 3, 0)


def test_too_few_epochs_to_unfreeze_all_blocks_are_rejected():
    with pytest.raises(BadInput, match="last block is unfrozen after 12 epochs, expected fewer than the 12"):
        recipe_of("gradual", unfreeze_epochs=3, epochs=12)


def test_learning_rates_fall_from_block_to_block_towards_the_input(arrays):
    network = build_backbone(VGG16, arrays, input_size=32)
    multipliers = block_multipliers(network, VGG16, 0.5)
    by_layer = {path.partition("/")[0]: multiplier(0) for path, multiplier in multipliers.items()}
    assert by_layer == {layer: 0.5 ** (5 - int(layer[5])) for layer in arrays}
    freeze_blocks(network, VGG16, 3)
    assert {path.partition("/")[0][:6] for path in block_multipliers(network, VGG16, 0.5)} == {
        "block4",
        "block5",
    }
    assert block_multipliers(network, VGG16, 1.0) == {}


@pytest.fixture
def train(pictures, make_stage, monkeypatch):
    """Return a function that trains with given val accuracies.

    It returns the final weights, the weights after each epoch, and the history.
    """

    def run(accuracies: list[float], patience: int, folder=None, stop_after: int | None = None):
        numerics.configure(seed=0, precision="float32")
        network, history, by_epoch = picture_classifier(), History(), []
        remaining = iter(accuracies)
        monkeypatch.setattr(network, "evaluate", lambda *_: (1.0, next(remaining)))

        def on_epoch_end(_):
            by_epoch.append([weight.copy() for weight in network.model.get_weights()])
            if len(by_epoch) == stop_after:
                raise KeyboardInterrupt

        options = {"seed": 0, "history": history, "on_epoch_end": on_epoch_end}
        options["checkpoint"] = Checkpoint(folder, Clock()) if folder else None
        fit(network, pictures, make_stage(epochs=6, patience=patience), **options)
        return network.model.get_weights(), by_epoch, history

    return run


def equal(actual: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(actual, expected, strict=True))


def test_patience_stops_training_and_restores_the_best_epochs_weights(train):
    final, by_epoch, history = train([0.5, 0.7, 0.6, 0.7, 0.9, 0.9], patience=2)
    assert len(history.rows) == 4
    assert equal(final, by_epoch[1])
    assert not equal(final, by_epoch[3])


def test_without_patience_all_epochs_run_and_the_last_weights_are_kept(train):
    final, by_epoch, history = train([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], patience=0)
    assert len(history.rows) == 6
    assert equal(final, by_epoch[5])


@pytest.mark.parametrize("stop_after", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))])
def test_patience_survives_an_interruption(train, tmp_path, stop_after):
    accuracies = [0.5, 0.7, 0.6, 0.7, 0.9, 0.9]
    expected, _, uninterrupted = train(accuracies, 2, tmp_path / "uninterrupted")
    with pytest.raises(KeyboardInterrupt):
        train(accuracies, 2, tmp_path / "interrupted", stop_after)
    final, by_epoch, history = train(accuracies[stop_after:], 2, tmp_path / "interrupted")
    assert equal(final, expected)
    assert len(history.rows) == len(uninterrupted.rows) == 4
    assert len(by_epoch) == 4 - stop_after


def history_rows(top: list[float], blocks: list[float]) -> list[dict]:
    rows = [{"stage": "top", "val_accuracy": value} for value in top]
    return rows + [{"stage": "blocks", "val_accuracy": value} for value in blocks]


@pytest.mark.parametrize(
    ("top", "blocks", "n_val", "destroyed"),
    [
        ([0.3, 0.45], [0.10, 0.50], 5000, True),
        ([0.3, 0.45], [0.43], 5000, True),
        ([0.3, 0.45], [0.44], 5000, False),  # within chance
        ([0.3, 0.45], [0.44], 500_000, True),
        ([0.9, 0.45], [0.46], 5000, False),
        ([0.45], [], 5000, False),
        ([], [0.1], 5000, False),
    ],
)
def test_a_first_epoch_below_the_frozen_backbones_head_gives_a_warning(top, blocks, n_val, destroyed):
    assert (destruction_warning(history_rows(top, blocks), n_val) is not None) == destroyed


def test_the_warning_contains_both_accuracies_and_advice():
    text = destruction_warning(history_rows([0.45], [0.1]), 5000)
    assert "val accuracy 10.0 %, 45.0 % with the backbone frozen" in text
    for advice in ("smaller --learning-rate", "longer --warmup", "--block-lr-multiplier below 1"):
        assert advice in text
    assert "later epochs" not in text
    recovered = destruction_warning(history_rows([0.45], [0.1, 0.6, 0.5]), 5000)
    assert "later epochs exceeded both: 60.0 %" in recovered


@pytest.mark.slow
def test_the_warning_is_logged_and_stored_with_the_run(digits, weights, features, tmp_path, caplog):
    changes = {"units": (), "epochs": 1, "top_epochs": 20, "batch_size": 10, "prefix": "images"}
    spec = spec_of("fine-tune:block5", {**changes, "learning_rate": 10.0, "optimizer": "adamw"})
    pretrained = tmp_path / "weights"
    publish_weights(pretrained, {"backbone": "vgg16", "weights": "arrays:0"}, read_weights(weights), {})
    inputs = {"dataset": str(digits), "weights": str(pretrained), "features": str(features)}
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        train_run(spec.as_json(), inputs, str(tmp_path / "run"))
    logged = {record.getMessage() for record in caplog.records if "destroyed" in record.getMessage()}
    stored = json.loads((tmp_path / "run" / RECIPE).read_text())["warnings"]
    assert logged == set(stored)
    assert len(stored) == 1
    assert "the first epoch destroyed the pretrained weights" in stored[0]


@pytest.mark.slow
def test_batch_norm_of_resnet50_stays_in_inference_mode_while_frozen(make_stage):
    numerics.configure(seed=0, precision="float32")
    images = np.random.default_rng(1).integers(0, 256, size=(10, 32, 32, 3)).astype(np.uint8)
    pictures = Examples(images, np.arange(10) % 2, np.arange(8), np.arange(8, 10), 2)
    arrays = random_arrays(RESNET50, seed=0)
    backbone = build_backbone(RESNET50, arrays, input_size=32)
    import keras

    from pipeline.networks.build import add_classifier, add_neck
    from pipeline.networks.fast_copy import fast_copy

    network = fast_copy(keras.Model(backbone.input, add_classifier(add_neck(backbone.output, "average"), 2)))
    freeze_blocks(network, RESNET50, 4)
    before = {layer.name: layer.get_weights() for layer in network.layers if layer.weights}
    fit(Classifier(network), pictures, make_stage(learning_rate=1e-4), seed=0, history=History())
    for name, weights in before.items():
        frozen = name in arrays and not name.startswith("conv5")
        after = network.get_layer(name).get_weights()
        unchanged = [np.array_equal(*pair) for pair in zip(weights, after, strict=True)]
        if frozen or not name.endswith("_conv"):  # a bias before batch normalization has no gradient
            assert unchanged == [frozen] * len(unchanged), name
        else:
            assert not unchanged[0], name
