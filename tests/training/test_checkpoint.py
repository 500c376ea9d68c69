"""A training that was broken off goes on behind its last whole epoch and ends as an undisturbed one does."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from pipeline import numerics
from pipeline.networks.build import add_block, add_classifier, add_neck
from pipeline.networks.notation import parse_block
from pipeline.training.checkpoint import FILE, Checkpoint
from pipeline.training.loop import Classifier, History, fit
from pipeline.training.record import Clock


class Interrupted(Exception):
    """Stands for whatever ends a process between two epochs."""


def classifier() -> Classifier:
    """Return a network with everything that draws random numbers or keeps a state."""
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    block = parse_block("conv - batch norm - maxpool 4 - dropout", dense=False)
    x = add_block(x, block, name="block1", width=4, dropout=0.3)
    return Classifier(keras.Model(pixels, add_classifier(add_neck(x, "flatten"), 2)))


@pytest.fixture
def train(pictures, make_stage):
    """Return a function that trains three epochs in a folder, broken off after some if told so."""
    stage = make_stage(
        epochs=3,
        flip=True,
        alternate=True,
        shift=2,
        averaging="lookahead",
        optimizer="sgd",
        schedule="triangle",
    )

    def run(folder, stop_after: int | None = None) -> tuple[list, list]:
        numerics.start(seed=0, precision="float32")
        network, history = classifier(), History()
        checkpoint = Checkpoint(folder, Clock())

        def watch(_, done, total, unit):
            if stop_after is not None and done > stop_after * total / 3:
                raise Interrupted

        told = {"seed": 0, "history": history, "checkpoint": checkpoint, "progress": watch}
        fit(network, pictures, stage, **told)
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]
        return network.model.get_weights(), rows

    return run


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_training_that_was_broken_off_ends_as_an_undisturbed_one(train, tmp_path, stop_after):
    wanted, history = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "broken", stop_after)
    assert (tmp_path / "broken" / FILE).exists()
    found, again = train(tmp_path / "broken")
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert again == history


def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_over(train, tmp_path):
    wanted, history = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "broken", 1)
    path = tmp_path / "broken" / FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found, again = train(tmp_path / "broken")
    assert again == history
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
