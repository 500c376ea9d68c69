"""Predictions of a finished run for picture files: the most probable classes with their probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.errors import DamagedFile
from pipeline.progress import Progress, silent
from pipeline.runs.result import read_run
from pipeline.training.classifier import evaluation_batch
from pipeline.training.feed import prefetch
from pipeline.use.embed import read_pictures
from pipeline.use.network import standalone_model

TOP_CLASSES = 3  # reported for each picture


def predict(run: str, weights: str | None, paths: list[str], progress: Progress = silent) -> dict[str, Any]:
    """Return {"rows", "unreadable"}: the predictions of the run in a folder for picture files.

    rows has a dict for each readable picture, in order: path, class, probability, and top, a list of the
    most probable classes as [class, probability]. unreadable has an error for each of the other files.
    """
    finished_run = read_run(Path(run))
    names = finished_run.recipe["class_names"]
    model = standalone_model(finished_run, Path(weights) if weights else None)
    forward = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
    side = finished_run.recipe["image_size"]
    size = evaluation_batch((side, side, 3), finished_run.recipe["input_size"])
    rows: list[dict[str, Any]] = []
    unreadable: list[str] = []
    batches = (paths[start : start + size] for start in range(0, len(paths), size))
    for batch, results in prefetch((batch, read_pictures(batch, side)) for batch in batches):
        named = list(zip(batch, results, strict=True))
        unreadable += [str(result) for result in results if isinstance(result, DamagedFile)]
        images = [(path, result) for path, result in named if not isinstance(result, DamagedFile)]
        if images:
            probabilities = forward(tf.constant(np.stack([image for _, image in images]))).numpy()
            for (path, _), row in zip(images, probabilities, strict=True):
                best = np.argsort(-row, kind="stable")[:TOP_CLASSES]
                top = [[names[number], round(float(row[number]), 6)] for number in best]
                rows.append({"path": path, "class": top[0][0], "probability": top[0][1], "top": top})
        progress("predict", len(rows) + len(unreadable), len(paths), "images")
    return {"rows": rows, "unreadable": unreadable}
