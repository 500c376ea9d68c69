"""What moves in fine-tuning, how fast, until when, and what is said where it destroys what was learnt."""

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
from pipeline.backbones.weights import random_arrays
from pipeline.errors import BadInput
from pipeline.recipes.schemes import SCHEMES
from pipeline.runs.train import train_run
from pipeline.schemes.fine_tune import block_multipliers, freeze_blocks, stages_of, why_destroyed
from pipeline.storage.layout import RECIPE
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples
from pipeline.training.history import Clock, History
from pipeline.training.loop import fit

RESNET50, VGG16 = BACKBONES["resnet50"], BACKBONES["vgg16"]


def recipe_of(name: str, **changes):
    return SCHEMES["fine-tune"].recipe(name, changes)


def test_gradual_unfreezing_moves_one_more_block_in_each_stage():
    recipe = recipe_of("gradual", epochs=12, unfreeze_epochs=2)
    stages = [(stage.name, stage.epochs, through) for stage, through in stages_of(recipe, 5, 12)]
    before = [(f"blocks from {block}", 2, block - 1) for block in (5, 4, 3, 2)]
    assert stages == [*before, ("blocks", 4, 0)]
    kept = recipe_of("gradual", freeze_through=3)
    assert [through for _, through in stages_of(kept, 5, 12)] == [4, 3]
    assert len({stage.salt for stage, _ in stages_of(recipe, 5, 12)}) == 5  # no order of images comes twice


def test_all_blocks_move_at_once_without_it():
    ((stage, through),) = stages_of(recipe_of("whole"), 5, 12)
    assert (stage.name, stage.epochs, stage.patience, through) == ("blocks", 12, 3, 0)


def test_epochs_that_end_before_all_blocks_move_are_refused():
    with pytest.raises(BadInput, match="unfreeze_epochs 3: expected all blocks to move before the 12 epochs"):
        recipe_of("gradual", unfreeze_epochs=3)


def test_rates_fall_from_block_to_block(arrays):
    network = build_backbone(VGG16, arrays, input_size=32)
    multipliers = block_multipliers(network, VGG16, 0.5)
    by_layer = {path.partition("/")[0]: multiplier(0) for path, multiplier in multipliers.items()}
    assert by_layer == {layer: 0.5 ** (5 - VGG16.block_of(layer)) for layer in arrays}
    freeze_blocks(network, VGG16, 3)
    assert {path.partition("/")[0][:6] for path in block_multipliers(network, VGG16, 0.5)} == {
        "block4",
        "block5",
    }
    assert block_multipliers(network, VGG16, 1.0) == {}


@pytest.fixture
def course(pictures, make_stage, monkeypatch):
    """Return a function that trains by a course of val accuracies, and returns weights after each epoch."""

    def run(accuracies: list[float], patience: int, folder=None, stop_after: int | None = None):
        numerics.start(seed=0, precision="float32")
        network, history, seen = picture_classifier(), History(), []
        answers = iter(accuracies)
        monkeypatch.setattr(network, "evaluate", lambda *_: (1.0, next(answers)))

        def watch(_):
            seen.append([weight.copy() for weight in network.model.get_weights()])
            if len(seen) == stop_after:
                raise KeyboardInterrupt

        told = {"seed": 0, "history": history, "watch": watch}
        told["checkpoint"] = Checkpoint(folder, Clock()) if folder else None
        fit(network, pictures, make_stage(epochs=6, patience=patience), **told)
        return network.model.get_weights(), seen, history

    return run


def same(have: list[np.ndarray], want: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(have, want, strict=True))


def test_patience_ends_training_and_leaves_the_best_epochs_weights(course):
    left, seen, history = course([0.5, 0.7, 0.6, 0.7, 0.9, 0.9], patience=2)
    assert len(history.rows) == 4
    assert same(left, seen[1])
    assert not same(left, seen[3])


def test_without_patience_every_epoch_is_run_and_the_last_weights_stay(course):
    left, seen, history = course([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], patience=0)
    assert len(history.rows) == 6
    assert same(left, seen[5])


@pytest.mark.parametrize("stop_after", [3, *(pytest.param(one, marks=pytest.mark.slow) for one in (2, 4))])
def test_patience_outlives_an_interruption(course, tmp_path, stop_after):
    accuracies = [0.5, 0.7, 0.6, 0.7, 0.9, 0.9]
    wanted, _, whole = course(accuracies, 2, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        course(accuracies, 2, tmp_path / "broken", stop_after)
    left, seen, history = course(accuracies[stop_after:], 2, tmp_path / "broken")
    assert same(left, wanted)
    assert len(history.rows) == len(whole.rows) == 4
    assert len(seen) == 4 - stop_after


def rows(top: list[float], moved: list[float]) -> list[dict]:
    found = [{"stage": "top", "val_accuracy": value} for value in top]
    return found + [{"stage": "blocks", "val_accuracy": value} for value in moved]


@pytest.mark.parametrize(
    ("top", "moved", "n_val", "destroyed"),
    [
        ([0.3, 0.45], [0.10, 0.50], 5000, True),
        ([0.3, 0.45], [0.43], 5000, True),
        ([0.3, 0.45], [0.44], 5000, False),  # as likely as not by chance
        ([0.3, 0.45], [0.44], 500_000, True),
        ([0.9, 0.45], [0.46], 5000, False),
        ([0.45], [], 5000, False),
        ([], [0.1], 5000, False),
    ],
)
def test_an_epoch_that_falls_below_the_frozen_head_is_told(top, moved, n_val, destroyed):
    assert (why_destroyed(rows(top, moved), n_val) is not None) == destroyed


def test_the_words_say_both_accuracies_and_what_to_do():
    text = why_destroyed(rows([0.45], [0.1]), 5000)
    assert "10.0 % on val behind it, 45.0 % with the frozen backbone's head" in text
    for advice in ("smaller --learning-rate", "longer --warmup", "--block-lr-multiplier below 1"):
        assert advice in text
    assert "later epochs" not in text
    assert "later epochs got beyond both: 60.0 %" in why_destroyed(rows([0.45], [0.1, 0.6, 0.5]), 5000)


def test_a_rate_that_destroys_the_pretrained_weights_is_logged_and_kept_with_the_run(
    digits, weights, features, tmp_path, caplog
):
    changes = {"units": (), "epochs": 1, "top_epochs": 20, "batch_size": 10, "prefix": "images"}
    spec = spec_of("fine-tune:block5", {**changes, "learning_rate": 10.0, "optimizer": "adamw"})
    inputs = {"dataset": str(digits), "weights": str(weights), "features": str(features)}
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        train_run(spec.as_json(), inputs, str(tmp_path / "run"))
    said = {record.getMessage() for record in caplog.records if "destroyed" in record.getMessage()}
    kept = json.loads((tmp_path / "run" / RECIPE).read_text())["warnings"]
    assert said == set(kept)
    assert len(kept) == 1
    assert "the first epoch destroyed pretrained weights" in kept[0]


@pytest.mark.slow
def test_batch_norm_of_resnet50_stays_in_inference_mode_while_frozen(make_stage):
    numerics.start(seed=0, precision="float32")
    images = np.random.default_rng(1).integers(0, 256, size=(10, 32, 32, 3)).astype(np.uint8)
    pictures = Examples(images, np.arange(10) % 2, np.arange(8), np.arange(8, 10), 2)
    backbone = build_backbone(RESNET50, random_arrays(RESNET50, seed=0), input_size=32)
    import keras

    from pipeline.networks.build import add_classifier, add_neck
    from pipeline.networks.fast_copy import quick_copy

    whole = quick_copy(keras.Model(backbone.input, add_classifier(add_neck(backbone.output, "average"), 2)))
    freeze_blocks(whole, RESNET50, 4)
    before = {layer.name: layer.get_weights() for layer in whole.layers if layer.weights}
    fit(Classifier(whole), pictures, make_stage(learning_rate=1e-4), seed=0, history=History())
    for name, was in before.items():
        now = whole.get_layer(name).get_weights()
        stays = 1 <= RESNET50.block_of(name) <= 4
        unchanged = [np.array_equal(one, other) for one, other in zip(was, now, strict=True)]
        if stays or not name.endswith("_conv"):  # a bias before a batch normalisation has no gradient
            assert unchanged == [stays] * len(unchanged), name
        else:
            assert not unchanged[0], name
