"""TensorBoard reads a run's curves."""

from __future__ import annotations

import math

import tensorflow as tf

from pipeline.runs.train import EVENTS, publish_events

ROWS = [
    {
        **{"epoch": number, "seconds": 1.5 * number, "train_loss": 2.0 / number, "train_accuracy": 0.25},
        **{"val_loss": math.nan, "val_accuracy": math.nan, "learning_rate": 0.125},
    }
    for number in (1, 2)
]


def read(folder) -> list[tuple]:
    events = tf.compat.v1.train.summary_iterator(str(folder / EVENTS))
    points = [
        (event.step, event.wall_time, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ]
    return [(step, time, tag, round(value, 6)) for step, time, tag, value in points]


def test_curves_read_back_without_values_that_are_not_finite(tmp_path):
    publish_events(tmp_path, ROWS)
    assert read(tmp_path) == [
        (1, 1.5, "train_loss", 2.0),
        (1, 1.5, "train_accuracy", 0.25),
        (1, 1.5, "learning_rate", 0.125),
        (2, 3.0, "train_loss", 1.0),
        (2, 3.0, "train_accuracy", 0.25),
        (2, 3.0, "learning_rate", 0.125),
    ]


def test_each_epoch_replaces_the_file_and_the_same_history_gives_the_same_bytes(tmp_path):
    publish_events(tmp_path, ROWS[:1])
    publish_events(tmp_path, ROWS)
    other = tmp_path / "other"
    publish_events(other, ROWS)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [EVENTS]
    assert (other / EVENTS).read_bytes() == (tmp_path / EVENTS).read_bytes()
