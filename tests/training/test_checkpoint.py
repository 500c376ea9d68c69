"""An interrupted training resumes after its last completed epoch and gives the same result."""

from __future__ import annotations

import dataclasses
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
    """Stands in for anything that ends a process between two epochs."""


class Variable:
    """The part of a variable that a checkpoint uses."""

    shape = (3,)

    def assign(self, value) -> None:
        self.value = value


@pytest.fixture
def train(pictures, make_stage):
    """Return a function that trains three epochs in a folder, optionally interrupted after some."""
    stage = make_stage(
        epochs=3,
        flip=True,
        alternate=True,
        shift=2,
        averaging="lookahead",
        optimizer="sgd",
        lr_schedule="triangle",
    )

    def run(folder, stop_after: int | None = None, epochs_per_row: int = 1) -> tuple[list, list]:
        numerics.configure(seed=0, precision="float32")
        network, history = picture_classifier(), History()
        checkpoint = Checkpoint(folder, Clock())

        def watch(_, done, total, unit):
            if stop_after is not None and done > stop_after * total / 3:
                raise Interrupted

        options = {"seed": 0, "history": history, "checkpoint": checkpoint, "progress": watch}
        fit(network, pictures, dataclasses.replace(stage, epochs_per_row=epochs_per_row), **options)
        return network.model.get_weights(), rows_without_seconds(history)

    return run


@pytest.mark.parametrize(("stop_after", "epochs_per_row"), [(1, 1), (2, 1), (2, 2)])
def test_an_interrupted_training_gives_the_same_result(train, tmp_path, stop_after, epochs_per_row):
    expected, history = train(tmp_path / "uninterrupted", epochs_per_row=epochs_per_row)
    with pytest.raises(Interrupted):
        train(tmp_path / "interrupted", stop_after, epochs_per_row)
    assert (tmp_path / "interrupted" / CHECKPOINT).exists()
    weights, resumed_history = train(tmp_path / "interrupted", epochs_per_row=epochs_per_row)
    for array, expected_array in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(array, expected_array)
    assert resumed_history == history


def test_a_damaged_checkpoint_is_deleted_and_the_training_restarts(train, tmp_path):
    expected, history = train(tmp_path / "uninterrupted")
    with pytest.raises(Interrupted):
        train(tmp_path / "interrupted", 1)
    path = tmp_path / "interrupted" / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    weights, resumed_history = train(tmp_path / "interrupted")
    assert resumed_history == history
    for array, expected_array in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(array, expected_array)


def test_fault_24_a_checkpoint_with_a_flipped_bit_is_deleted_or_reads_back_unchanged(tmp_path, flip_byte):
    Checkpoint(tmp_path, Clock()).save("blocks", 1, [np.arange(3.0)], History([{"epoch": 1}], 0.5))
    path, outcomes = tmp_path / CHECKPOINT, set()
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content)
        flip_byte(path, position, 1 << position % 8)
        variable, history, checkpoint = Variable(), History(), Checkpoint(tmp_path, Clock())
        outcomes.add(checkpoint.stage)
        assert path.exists() == (checkpoint.stage is not None)
        if checkpoint.stage:
            assert checkpoint.restore("blocks", [variable], history) == 1
            assert (variable.value.tolist(), history.rows, history.seconds) == (
                [0, 1, 2],
                [{"epoch": 1}],
                0.5,
            )
    assert outcomes == {None, "blocks"}  # zip repeats or ignores some bytes


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
def test_a_checkpoint_with_an_invalid_state_is_deleted(tmp_path, changes):
    text = np.frombuffer(json.dumps({**STATE, **changes}).encode(), np.uint8)
    np.savez(tmp_path / CHECKPOINT, state=text, variable0=np.zeros(3))
    assert Checkpoint(tmp_path, Clock()).stage is None
    assert not (tmp_path / CHECKPOINT).exists()


def test_an_array_larger_than_the_checkpoint_is_not_allocated(tmp_path):
    Checkpoint(tmp_path, Clock()).save("blocks", 1, [np.zeros(3)], History())
    with zipfile.ZipFile(tmp_path / CHECKPOINT) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    original, forged = b"'shape': (3,), }", b"'shape': (%d,), }" % (1 << 30)
    padding = b" " * (len(forged) - len(original))
    assert original + padding in members["variable0.npy"]
    members["variable0.npy"] = members["variable0.npy"].replace(original + padding, forged)
    with zipfile.ZipFile(tmp_path / CHECKPOINT, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    tracemalloc.start()
    try:
        assert Checkpoint(tmp_path, Clock()).stage is None
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_checkpoint_of_another_network_is_refused_with_advice(train, tmp_path):
    train(tmp_path)
    checkpoint = Checkpoint(tmp_path, Clock())
    with pytest.raises(DamagedFile, match="expected the 1 variables .*, found .* delete the file"):
        checkpoint.restore("blocks", [np.zeros(3)], History())


def test_seconds_by_stage_of_all_attempts_are_counted(tmp_path):
    clock = Clock()
    with clock.stage("blocks"):
        Checkpoint(tmp_path, clock).save("blocks", 1, [], History())
    resumed = Clock()
    Checkpoint(tmp_path, resumed)
    assert 0 <= resumed.stages["blocks"] <= clock.stages["blocks"]
    assert resumed.total() >= resumed.stages["blocks"]
