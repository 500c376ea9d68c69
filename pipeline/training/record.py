"""Train one run from start to end, and leave its folder: recipe, history, model, predictions, costs."""

from __future__ import annotations

import contextlib
import csv
import importlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipeline import machine, numerics
from pipeline.backbones.table import BACKBONES
from pipeline.datasets.split import FINAL, SPLITS
from pipeline.datasets.store import ImageStore
from pipeline.errors import Diverged
from pipeline.features.store import FeatureStore
from pipeline.heads.recipes import with_layers
from pipeline.progress import Progress, silent
from pipeline.publishing import MANIFEST, publish_json, publish_manifest, published
from pipeline.results.run import (
    COSTS,
    HISTORY,
    HISTORY_COLUMNS,
    MODEL,
    PREDICTIONS,
    RECIPE,
    write_predictions,
)
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.events import FILE as EVENTS
from pipeline.training.events import publish_events
from pipeline.training.loop import History
from pipeline.training.schemes import SCHEMES

if TYPE_CHECKING:
    import keras
    import numpy as np

    from pipeline.training.recipes import Labelled

Recipe = TypeVar("Recipe", bound="Labelled")

FILES = [RECIPE, HISTORY, MODEL, PREDICTIONS, EVENTS, COSTS]


@dataclass
class Clock:
    """Seconds by stage of a run, measured on a clock that never goes back."""

    stages: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    _open: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of the block under a name."""
        self._open[name] = time.perf_counter()
        yield
        self.stages = self.so_far()
        del self._open[name]

    def so_far(self) -> dict[str, float]:
        """Return the seconds by stage, that under way included."""
        now = time.perf_counter()
        running = {name: self.stages.get(name, 0.0) + now - began for name, began in self._open.items()}
        return {**self.stages, **{name: round(seconds, 3) for name, seconds in running.items()}}

    def total(self) -> float:
        """Return the seconds since this clock was made, and of the attempts before."""
        return round(time.perf_counter() - self.began, 3)

    def resume(self, seconds: float, stages: dict[str, float]) -> None:
        """Count the seconds of an attempt that was broken off as well."""
        self.began -= seconds
        for name, spent in stages.items():
            self.stages[name] = round(self.stages.get(name, 0.0) + spent, 3)


@dataclass(frozen=True)
class Job(Generic[Recipe]):
    """What a scheme's training function is given; inputs of other schemes are None.

    features are those that a head is fitted on, maps those at the cut of a network whose frozen part is
    cached, sweep is the folder of the sweep that chose a head.
    """

    recipe: Recipe
    seed: int
    images: ImageStore
    features: FeatureStore | None
    weights: Path | None
    backbone: str
    clock: Clock
    progress: Progress
    sweep: Path | None = None
    maps: FeatureStore | None = None
    checkpoint: Checkpoint | None = None
    splits: tuple[str, ...] = ("val", "test")  # whose images the trained network is asked about
    watch: Callable[[History], None] | None = None  # called after each epoch

    def rows(self) -> np.ndarray:
        """Return the positions (n,) of the images that the trained network is asked about.

        They come in the data set's order; val is left out where it was trained on.
        """
        import numpy as np

        trained_on_val = getattr(self.recipe, "fit_on", None) == FINAL
        asked = [SPLITS[name] for name in self.splits if not (trained_on_val and name == "val")]
        return np.flatnonzero(np.isin(self.images.split, asked))


@dataclass(frozen=True)
class Trained:
    """What a scheme's training function returns.

    probabilities (N, C) float32 has a row for each row of rows (N,), positions in the data set.
    backbone_parameters are those that the model file does not hold because features stand before it.
    n_train is how many images it was trained on, by default all training images. settings are those that
    were used where a search chose them, which took tune_seconds. facts say what else is worth knowing of
    the training, and go into its recipe.json.
    """

    model: keras.Model
    history: History
    rows: np.ndarray
    probabilities: np.ndarray
    backbone_parameters: int = 0
    n_train: int | None = None
    settings: dict[str, Any] | None = None
    tune_seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


def train_run(
    order: dict[str, Any],
    dataset: str,
    folder: str,
    weights: str | None = None,
    features: str | None = None,
    sweep: str | None = None,
    maps: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train what order describes and publish its run folder; return its costs.

    order has scheme ("head:linear"), settings, seed, precision, weights and backbone (names for tables),
    and the whole fingerprint. Raises Diverged when the loss or the answers are not finite numbers.
    """
    clock, target = Clock(), Path(folder)
    with clock.stage("start"):
        inputs: dict[str, Any] = {
            "dataset": dataset,
            "weights": weights,
            "features": features,
            "sweep": sweep,
            "maps": maps,
        }
        checkpoint = Checkpoint(target, clock)
        own: dict[str, Any] = {"clock": clock, "progress": progress, "checkpoint": checkpoint}
        own["watch"] = lambda history: publish_events(target, history.rows)
        job, state = prepare_job(order, **inputs, **own)
    trained = train(order, job)
    images = job.images
    with clock.stage("publish"):
        _publish_results(target, trained, images)
    publish_json(target / RECIPE, _description(order, trained, images, state))
    costs = _costs(target, clock, _extractions(job, order["fingerprint"]), trained.tune_seconds)
    publish_json(target / COSTS, costs)
    publish_manifest(target, order["fingerprint"], FILES)
    checkpoint.remove()
    return costs


def prepare_job(
    order: dict[str, Any],
    *,
    dataset: str,
    weights: str | None = None,
    features: str | None = None,
    sweep: str | None = None,
    maps: str | None = None,
    **more: Any,
) -> tuple[Job[Any], dict[str, Any]]:
    """Set TensorFlow up for what order describes; return its job, with more fields, and that state.

    order has what train_run is given; row is the recipe's row where its name is none.
    """
    name, _, recipe = order["scheme"].partition(":")
    scheme = SCHEMES[name]
    state = numerics.start(seed=order["seed"], precision=scheme.precision or order["precision"])
    chosen = scheme.recipe(order.get("row", recipe), order["settings"])
    if scheme.needs:
        chosen = with_layers(chosen, BACKBONES[order["backbone"]].taps)
    job = Job(
        recipe=chosen,
        seed=order["seed"],
        images=ImageStore(dataset),
        features=FeatureStore(features) if features else None,
        weights=Path(weights) if weights else None,
        sweep=Path(sweep) if sweep else None,
        maps=FeatureStore(maps) if maps else None,
        backbone=order["backbone"],
        **more,
    )
    return job, state


def train(order: dict[str, Any], job: Job[Any]) -> Trained:
    """Return what the training function of order's scheme makes of a job."""
    module, _, function = SCHEMES[order["scheme"].partition(":")[0]].train.partition(":")
    return getattr(importlib.import_module(module), function)(job)


def _publish_results(folder: Path, trained: Trained, images: ImageStore) -> None:
    import numpy as np

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
    order: dict[str, Any], trained: Trained, images: ImageStore, state: dict[str, Any]
) -> dict[str, Any]:
    model = trained.model
    features = order["fingerprint"].get("features", {})
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {
        **{name: order[name] for name in ("scheme", "seed", "weights", "backbone", "fingerprint")},
        "settings": order["settings"] if trained.settings is None else trained.settings,
        "dataset": images.row.name,
        "dataset_title": images.row.title,
        "dataset_note": images.row.note,
        "input_size": features.get("input_size", images.fingerprint["image_size"]),
        "class_names": images.class_names,
        **_counts(images, trained),
        "precision": order["precision"],
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
