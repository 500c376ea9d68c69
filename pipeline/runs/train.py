"""Train one run from start to end, and leave its folder: recipe, history, model, predictions, costs."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import machine, numerics
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import SPLITS
from pipeline.errors import Diverged
from pipeline.features.store import FeatureStore
from pipeline.names import resolve
from pipeline.progress import Progress, silent
from pipeline.runs.result import HISTORY, HISTORY_COLUMNS, PREDICTIONS, write_predictions
from pipeline.runs.spec import RunInputs, RunSpec
from pipeline.runs.tensorboard import FILE as EVENTS
from pipeline.runs.tensorboard import publish_events
from pipeline.storage.layout import COSTS, MODEL, RECIPE
from pipeline.storage.publishing import MANIFEST, publish_json, publish_manifest, published
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.clock import Clock
from pipeline.training.job import Job, Trained

FILES = [RECIPE, HISTORY, MODEL, PREDICTIONS, EVENTS, COSTS]


def train_run(
    spec: dict[str, Any], inputs: dict[str, str], folder: str, progress: Progress = silent
) -> dict[str, Any]:
    """Train what a RunSpec says from RunInputs, both as JSON; publish the run's folder and return its costs.

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
    costs = _costs(target, clock, _extractions(job, run.fingerprint), trained.tune_seconds)
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
    write_predictions(
        folder / PREDICTIONS,
        images.index[rows],
        [images.names[row] for row in rows],
        images.labels[rows],
        images.split[rows],
        trained.probabilities,
    )


def _description(
    spec: RunSpec, trained: Trained, images: ImageStore, state: dict[str, Any]
) -> dict[str, Any]:
    model = trained.model
    features = spec.fingerprint.get("features", {})
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
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
        **_counts(images, trained),
        "precision": spec.precision,
        **trained.facts,
        "epochs": len(trained.history.rows),
        "parameters": model.count_params() + trained.backbone_parameters,
        "trainable_parameters": trainable,
        "versions": machine.versions(),
        "machine": {**machine.describe(), **state},
    }


def _counts(images: ImageStore, trained: Trained) -> dict[str, int]:
    """Return n_train, n_val and n_test: the images trained on, and the evaluated ones of each split."""
    counts = {name: int((images.split[trained.rows] == code).sum()) for name, code in SPLITS.items()}
    counts["train"] = images.counts["train"] if trained.n_train is None else trained.n_train
    return {f"n_{split}": count for split, count in counts.items()}


def _extractions(job: Job[Any], fingerprint: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each cache that a run reads cost, by the layers and views that it reads."""
    caches = {"features": job.features, "maps": job.maps}
    read = {name: store for name, store in caches.items() if store and name in fingerprint}
    if len(read) == 2 and read["maps"].folder == read["features"].folder:
        del read["features"]  # maps of one pixel are the features
    return [
        store.costs(fingerprint[name]["layers"], fingerprint[name]["views"]) for name, store in read.items()
    ]


def _costs(
    folder: Path, clock: Clock, extractions: list[dict[str, Any]], tune_seconds: float
) -> dict[str, Any]:
    extracted, seconds = round(sum(one["seconds"] for one in extractions), 3), clock.total()
    peaks = [machine.peak_memory_mb(), *(one["peak_memory_mb"] for one in extractions)]
    return {
        "train_seconds": seconds,
        "tune_seconds": tune_seconds,
        "extract_seconds": extracted,
        "total_seconds": round(seconds + tune_seconds + extracted, 3),
        "peak_memory_mb": round(max(peaks), 1),
        "bytes": sum((folder / name).stat().st_size for name in FILES if name != COSTS),
        "stages": dict(clock.stages),
    }
