"""The curves of a run for TensorBoard (`tensorboard --logdir data/runs`), as one file of events.

The file is published anew after each epoch. Times are seconds of training instead of the time of day, so that
the same training gives the same bytes wherever its seconds do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.storage.publishing import published

FILE = "events.out.tfevents.headstart"  # TensorBoard looks for names with tfevents in them
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")


def publish_events(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the curves of a history, a row an epoch, into a run's folder; what is no number is left out."""
    with published(folder / FILE) as scratch, tf.io.TFRecordWriter(str(scratch)) as file:
        file.write(tf.compat.v1.Event(file_version="brain.Event:2").SerializeToString())
        for row in rows:
            values = [
                tf.compat.v1.Summary.Value(tag=name, simple_value=float(row[name]))
                for name in CURVES
                if math.isfinite(row[name])
            ]
            summary = tf.compat.v1.Summary(value=values)
            event = tf.compat.v1.Event(step=row["epoch"], wall_time=row["seconds"], summary=summary)
            file.write(event.SerializeToString())
