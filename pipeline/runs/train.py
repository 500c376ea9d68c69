"""Train one run and write its folder: recipe, history, model, predictions, costs."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline import machine, numerics
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.errors import Diverged
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.progress import Progress, silent
from pipeline.runs.result import CURVES, HISTORY, HISTORY_COLUMNS, PREDICTIONS, write_predictions
from pipeline.runs.spec import RunSpec
from pipeline.storage.layout import COSTS, MODEL, RECIPE
from pipeline.storage.publishing import MANIFEST, publish_csv, publish_json, publish_manifest, published
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.history import Clock
from pipeline.training.job import Job, TrainingResult

EVENTS = "events.out.tfevents.headstart"  # TensorBoard looks for "tfevents" in names
RUN_FILES = [RECIPE, HISTORY, MODEL, PREDICTIONS, EVENTS, COSTS]


def train_run(
    spec: dict[str, Any], inputs: dict[str, str], folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Train a RunSpec, as JSON, from the folders of its inputs; publish the run's folder, return its costs.

    Raises Diverged if the loss or the predictions are not finite.
    """
    clock, target, run = Clock(), Path(folder), RunSpec.from_json(spec)
    with clock.stage("start"):
        checkpoint = Checkpoint(target, clock)
        job, state = prepare_job(
            run,
            inputs,
            clock=clock,
            progress=progress,
            checkpoint=checkpoint,
            on_epoch_end=lambda history: publish_events(target, history.rows),
        )
    trained = resolve(run.scheme_row.train)(job)
    with clock.stage("publish"):
        _publish_results(target, trained, job.images)
    publish_json(target / RECIPE, _description(run, trained, job.images, state))
    costs = _costs(target, job, run, trained.tune_seconds)
    publish_json(target / COSTS, costs)
    publish_manifest(target, run.fingerprint, RUN_FILES)
    checkpoint.remove()
    return costs


def prepare_job(spec: RunSpec, inputs: dict[str, str], **more: Any) -> tuple[Job[Any], dict[str, Any]]:
    """Set up TensorFlow for a training; return its job, with more fields, and the state of TensorFlow."""
    state = numerics.configure(seed=spec.seed, precision=spec.scheme_row.precision or spec.precision)
    stores: dict[str, Any] = {"dataset": ImageStore, "features": FeatureStore, "maps": FeatureStore}
    opened = {name: stores.get(name, Path)(folder) for name, folder in inputs.items()}
    job = Job(
        recipe=spec.load_recipe(),
        seed=spec.seed,
        images=opened.pop("dataset"),
        prefix=spec.prefix,
        backbone=spec.backbone,
        input_size=spec.input_size,
        **{"features": None, "weights": None, **opened, **more},
    )
    return job, state


def publish_events(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the finite values of a history's curves into a run's folder as a TensorBoard file.

    Its wall times are seconds of training, not the time of day: the same history gives the same bytes.
    """
    with published(folder / EVENTS) as scratch, tf.io.TFRecordWriter(os.fsencode(scratch)) as file:
        file.write(tf.compat.v1.Event(file_version="brain.Event:2").SerializeToString())
        for row in rows:
            tags = [name for name in CURVES if math.isfinite(row[name])]
            values = [tf.compat.v1.Summary.Value(tag=tag, simple_value=float(row[tag])) for tag in tags]
            summary = tf.compat.v1.Summary(value=values)
            event = tf.compat.v1.Event(step=row["epoch"], wall_time=row["seconds"], summary=summary)
            file.write(event.SerializeToString())


def _publish_results(folder: Path, trained: TrainingResult, images: ImageStore) -> None:
    if not np.isfinite(trained.probabilities).all():
        raise Diverged(f"{folder.name}: the trained model's probabilities are not finite numbers")
    with published(folder / MODEL) as scratch:
        trained.model.save(scratch)
        (folder / MANIFEST).unlink(missing_ok=True)  # an old one would certify the new files
    publish_csv(folder / HISTORY, pd.DataFrame(trained.history.rows, columns=list(HISTORY_COLUMNS)))
    publish_events(folder, trained.history.rows)
    rows = trained.rows
    columns = {"index": images.index[rows], "labels": images.labels[rows], "split": images.split[rows]}
    columns |= {"names": [images.names[row] for row in rows], "probabilities": trained.probabilities}
    write_predictions(folder / PREDICTIONS, **columns)


def _description(
    spec: RunSpec, trained: TrainingResult, images: ImageStore, state: dict[str, Any]
) -> dict[str, Any]:
    model = trained.model
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
        "image_size": images.image_size,
        "input_size": spec.input_size,
        "class_names": images.class_names,
        **{f"n_{split}": count for split, count in counts.items()},
        "precision": spec.precision,
        **trained.facts,
        "epochs": max((row["epoch"] for row in trained.history.rows), default=0),
        "parameters": model.count_params() + trained.backbone_parameters,
        "trainable_parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "versions": machine.versions(),
        "machine": {**machine.describe(), **state},
    }


def _costs(folder: Path, job: Job[Any], spec: RunSpec, tune_seconds: float) -> dict[str, Any]:
    """Return seconds, peak memory and bytes, including what extracting the cached layers and views cost."""
    caches, parts = {"features": job.features, "maps": job.maps}, spec.fingerprint
    used = {name: store for name, store in caches.items() if store and name in parts}
    if len(used) == 2 and used["maps"].folder == used["features"].folder:
        del used["features"]  # maps of one pixel are the features: count them once
    columns = {name: (parts[name]["layers"], parts[name]["views"]) for name in used}
    counted = {section.key for name, store in used.items() for section in store.sections_of(*columns[name])}
    extractions = [store.costs(*columns[name], counted=counted) for name, store in used.items()]
    extracted, seconds = round(sum(costs["seconds"] for costs in extractions), 3), job.clock.total()
    peaks = [machine.peak_memory_mb(), *(costs["peak_memory_mb"] for costs in extractions)]
    return {
        "train_seconds": seconds,
        "tune_seconds": tune_seconds,
        "extract_seconds": extracted,
        "extract_images": max((costs["images"] for costs in extractions), default=0),
        "extract_image_seconds": sum(costs["image_seconds"] for costs in extractions),
        "total_seconds": round(seconds + tune_seconds + extracted, 3),
        "peak_memory_mb": round(max(peaks), 1),
        "bytes": sum((folder / name).stat().st_size for name in RUN_FILES if name != COSTS),
        "stages": dict(job.clock.stages),
    }
