"""A training that was broken off goes on behind its last whole epoch and ends as an undisturbed one does."""

from __future__ import annotations

import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from small_networks import picture_classifier, rows_without_seconds

from pipeline import numerics
from pipeline.errors import DamagedFile
from pipeline.storage.layout import CHECKPOINT
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.history import Clock, History
from pipeline.training.loop import fit


class Interrupted(Exception):
    """Stands for whatever ends a process between two epochs."""


class Variable:
    """What a checkpoint needs of a variable."""

    shape = (3,)

    def assign(self, value) -> None:
        self.value = value


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
        lr_schedule="triangle",
    )

    def run(folder, stop_after: int | None = None) -> tuple[list, list]:
        numerics.start(seed=0, precision="float32")
        network, history = picture_classifier(), History()
        checkpoint = Checkpoint(folder, Clock())

        def watch(_, done, total, unit):
            if stop_after is not None and done > stop_after * total / 3:
                raise Interrupted

        told = {"seed": 0, "history": history, "checkpoint": checkpoint, "progress": watch}
        fit(network, pictures, stage, **told)
        return network.model.get_weights(), rows_without_seconds(history)

    return run


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_training_that_was_broken_off_ends_as_an_undisturbed_one(train, tmp_path, stop_after):
    wanted, history = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "broken", stop_after)
    assert (tmp_path / "broken" / CHECKPOINT).exists()
    found, again = train(tmp_path / "broken")
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert again == history


def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_over(train, tmp_path):
    wanted, history = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "broken", 1)
    path = tmp_path / "broken" / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found, again = train(tmp_path / "broken")
    assert again == history
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_fault_24_a_checkpoint_with_a_flipped_bit_is_set_aside_or_read_as_it_was(tmp_path, flip_byte):
    Checkpoint(tmp_path, Clock()).keep("blocks", 1, [np.arange(3.0)], History([{"epoch": 1}], 0.5))
    path, outcomes = tmp_path / CHECKPOINT, set()
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole)
        flip_byte(path, position, 1 << position % 8)
        variable, history, kept = Variable(), History(), Checkpoint(tmp_path, Clock())
        outcomes.add(kept.stage)
        assert path.exists() == (kept.stage is not None)
        if kept.stage:
            assert kept.restore("blocks", [variable], history) == 1
            assert (variable.value.tolist(), history.rows, history.seconds) == (
                [0, 1, 2],
                [{"epoch": 1}],
                0.5,
            )
    assert outcomes == {None, "blocks"}  # what zip repeats or ignores may flip unseen


STATE = {"stage": "blocks", "epoch": 1, "history": [{"epoch": 1}], "training_seconds": 0.5, "variables": 1}
STATE |= {"seconds": 1.5, "stages": {"blocks": 1.0}}


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": None},
        {"epoch": "1"},
        {"history": [1]},
        {"training_seconds": []},
        {"seconds": "1"},
        {"stages": {"blocks": None}},
        {"variables": 2},
    ],
    ids=str,
)
def test_a_checkpoint_whose_state_makes_no_sense_is_set_aside(tmp_path, changes):
    text = np.frombuffer(json.dumps({**STATE, **changes}).encode(), np.uint8)
    np.savez(tmp_path / CHECKPOINT, state=text, variable0=np.zeros(3))
    assert Checkpoint(tmp_path, Clock()).stage is None
    assert not (tmp_path / CHECKPOINT).exists()


def test_an_array_that_claims_more_than_the_checkpoint_holds_takes_no_memory(tmp_path):
    Checkpoint(tmp_path, Clock()).keep("blocks", 1, [np.zeros(3)], History())
    with zipfile.ZipFile(tmp_path / CHECKPOINT) as kept:
        members = {name: kept.read(name) for name in kept.namelist()}
    honest, claim = b"'shape': (3,), }", b"'shape': (%d,), }" % (1 << 30)
    padding = b" " * (len(claim) - len(honest))
    assert honest + padding in members["variable0.npy"]
    members["variable0.npy"] = members["variable0.npy"].replace(honest + padding, claim)
    with zipfile.ZipFile(tmp_path / CHECKPOINT, "w") as altered:
        for name, content in members.items():
            altered.writestr(name, content)
    tracemalloc.start()
    try:
        assert Checkpoint(tmp_path, Clock()).stage is None
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_checkpoint_of_another_network_is_refused_with_advice(train, tmp_path):
    train(tmp_path)
    kept = Checkpoint(tmp_path, Clock())
    with pytest.raises(DamagedFile, match="expected the 1 variables .*, found .* delete the file"):
        kept.restore("blocks", [np.zeros(3)], History())


def test_seconds_by_stage_of_all_attempts_are_counted(tmp_path):
    clock = Clock()
    with clock.stage("blocks"):
        Checkpoint(tmp_path, clock).keep("blocks", 1, [], History())
    resumed = Clock()
    Checkpoint(tmp_path, resumed)
    assert 0 <= resumed.stages["blocks"] <= clock.stages["blocks"]
    assert resumed.total() >= resumed.stages["blocks"]
