"""Train one run from start to end, and leave its folder: recipe, history, model, predictions, costs."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline import machine, numerics
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.errors import Diverged
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.progress import Progress, silent
from pipeline.runs.result import CURVES, HISTORY, HISTORY_COLUMNS, PREDICTIONS, write_predictions
from pipeline.runs.spec import RunInputs, RunSpec
from pipeline.storage.layout import COSTS, MODEL, RECIPE
from pipeline.storage.publishing import MANIFEST, publish_json, publish_manifest, published
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.history import Clock
from pipeline.training.job import Job, Trained

EVENTS = "events.out.tfevents.headstart"  # TensorBoard looks for names with tfevents in them
FILES = [RECIPE, HISTORY, MODEL, PREDICTIONS, EVENTS, COSTS]


def train_run(
    spec: dict[str, Any], inputs: dict[str, str], folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Train a RunSpec from RunInputs, both as JSON; publish the run's folder and return its costs.

    Raises Diverged when the loss or the predictions are not finite numbers.
    """
    clock, target, run = Clock(), Path(folder), RunSpec.from_json(spec)
    with clock.stage("start"):
        checkpoint = Checkpoint(target, clock)
        job, state = prepare_job(
            run,
            RunInputs(**inputs),
            clock=clock,
            progress=progress,
            checkpoint=checkpoint,
            watch=lambda history: publish_events(target, history.rows),
        )
    trained = train(run, job)
    with clock.stage("publish"):
        _publish_results(target, trained, job.images)
    publish_json(target / RECIPE, _description(run, trained, job.images, state))
    costs = _costs(target, job, run, trained.tune_seconds)
    publish_json(target / COSTS, costs)
    publish_manifest(target, run.fingerprint, FILES)
    checkpoint.remove()
    return costs


def prepare_job(spec: RunSpec, inputs: RunInputs, **more: Any) -> tuple[Job[Any], dict[str, Any]]:
    """Set TensorFlow up for a training; return its job, with more fields, and that state."""
    state = numerics.start(seed=spec.seed, precision=spec.scheme_row.precision or spec.precision)
    job = Job(
        recipe=spec.load_recipe(),
        seed=spec.seed,
        images=ImageStore(inputs.dataset),
        features=FeatureStore(inputs.features) if inputs.features else None,
        weights=Path(inputs.weights) if inputs.weights else None,
        sweep=Path(inputs.sweep) if inputs.sweep else None,
        maps=FeatureStore(inputs.maps) if inputs.maps else None,
        prefix=spec.prefix,
        backbone=spec.backbone,
        **more,
    )
    return job, state


def train(spec: RunSpec, job: Job[Any]) -> Trained:
    """Return what the training function of a scheme makes of a job."""
    return resolve(spec.scheme_row.train)(job)


def publish_events(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the curves of a history, a row an epoch, into a run's folder; what is no number is left out.

    It is one file for `tensorboard --logdir data/runs`. Its times are seconds of training, not of the day:
    the same training gives the same bytes wherever its seconds do not count.
    """
    with published(folder / EVENTS) as scratch, tf.io.TFRecordWriter(str(scratch)) as file:
        file.write(tf.compat.v1.Event(file_version="brain.Event:2").SerializeToString())
        for row in rows:
            known = {name: float(row[name]) for name in CURVES if math.isfinite(row[name])}
            values = [tf.compat.v1.Summary.Value(tag=tag, simple_value=value) for tag, value in known.items()]
            summary = tf.compat.v1.Summary(value=values)
            event = tf.compat.v1.Event(step=row["epoch"], wall_time=row["seconds"], summary=summary)
            file.write(event.SerializeToString())


def _publish_results(folder: Path, trained: Trained, images: ImageStore) -> None:
    if not np.isfinite(trained.probabilities).all():
        raise Diverged(f"{folder.name}: the trained model's probabilities are not finite numbers")
    with published(folder / MODEL) as scratch:
        trained.model.save(scratch)
        (folder / MANIFEST).unlink(missing_ok=True)  # one of an earlier training would vouch for a mixture
    with published(folder / HISTORY) as scratch, scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS)
        writer.writeheader()
        writer.writerows(trained.history.rows)
    publish_events(folder, trained.history.rows)
    rows = trained.rows
    names = [images.names[row] for row in rows]
    columns = (images.index[rows], names, images.labels[rows], images.split[rows])
    write_predictions(folder / PREDICTIONS, *columns, trained.probabilities)


def _description(
    spec: RunSpec, trained: Trained, images: ImageStore, state: dict[str, Any]
) -> dict[str, Any]:
    model, features = trained.model, spec.fingerprint.get("features", {})
    counts = {split: int((images.split[trained.rows] == code).sum()) for split, code in SPLITS.items()}
    counts["train"] = images.counts["train"] if trained.n_train is None else trained.n_train
    return {
        "scheme": spec.name,
        "seed": spec.seed,
        "weights": spec.weights,
        "backbone": spec.backbone,
        "fingerprint": spec.fingerprint,
        "settings": spec.settings if trained.settings is None else trained.settings,
        "dataset": images.row.name,
        "dataset_title": images.row.title,
        "dataset_note": images.row.note,
        "input_size": features.get("input_size", images.fingerprint["image_size"]),
        "class_names": images.class_names,
        **{f"n_{split}": count for split, count in counts.items()},
        "precision": spec.precision,
        **trained.facts,
        "epochs": len(trained.history.rows),
        "parameters": model.count_params() + trained.backbone_parameters,
        "trainable_parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "versions": machine.versions(),
        "machine": {**machine.describe(), **state},
    }


def _costs(folder: Path, job: Job[Any], spec: RunSpec, tune_seconds: float) -> dict[str, Any]:
    """Return seconds, peak memory and bytes; of each cache that was read, what its layers and views cost."""
    caches, parts = {"features": job.features, "maps": job.maps}, spec.fingerprint
    read = {name: store for name, store in caches.items() if store and name in parts}
    if len(read) == 2 and read["maps"].folder == read["features"].folder:
        del read["features"]  # maps of one pixel are the features
    extractions = [store.costs(parts[name]["layers"], parts[name]["views"]) for name, store in read.items()]
    extracted, seconds = round(sum(one["seconds"] for one in extractions), 3), job.clock.total()
    peaks = [machine.peak_memory_mb(), *(one["peak_memory_mb"] for one in extractions)]
    return {
        "train_seconds": seconds,
        "tune_seconds": tune_seconds,
        "extract_seconds": extracted,
        "total_seconds": round(seconds + tune_seconds + extracted, 3),
        "peak_memory_mb": round(max(peaks), 1),
        "bytes": sum((folder / name).stat().st_size for name in FILES if name != COSTS),
        "stages": dict(job.clock.stages),
    }
