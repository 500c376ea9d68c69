"""Estimates of a task's time and disk space: from measurements on this machine, or else from its speed."""

import contextlib
import functools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import machine
from pipeline.backbones.table import Backbone
from pipeline.children import run_in_child
from pipeline.datasets.lookup import stored_dataset
from pipeline.errors import HeadstartError
from pipeline.features.sections import Section, engine_of, multiply_adds, published_sections
from pipeline.progress import Progress, silent
from pipeline.recipes.fine_tune import FineTuneRecipe
from pipeline.recipes.from_scratch import ScratchRecipe
from pipeline.recipes.heads import Head
from pipeline.storage.fingerprint import differences
from pipeline.storage.layout import COSTS, RECIPE, SPEED, list_folders
from pipeline.storage.publishing import publish_sealed, read_manifest, read_sealed

FAULTS: tuple[type[Exception], ...] = (HeadstartError, OSError, ValueError, KeyError, TypeError)
FAULTS += (AttributeError, RecursionError, ZeroDivisionError)  # errors that malformed files can raise

# Operations per second relative to a product of float32 matrices in NumPy, by precision. FORWARD is for a
# forward pass; TRAINING counts only a step's forward operations, so it is lower. These and the constants
# below are rough fits to docs/benchmarks.md (AMD EPYC with AVX512_BF16, two cores).
FORWARD, TRAINING = {"float32": 1.7, "bfloat16": 3.4}, {"float32": 0.6, "bfloat16": 1.2}
LINEAR_HEAD, DENSE_HEAD = 2.6e6, 1.4e7  # operations that take as long as a step of a head for one image
SWEEP_SHARE = 0.15  # time of a head in a sweep, relative to one that is trained alone
SPEED_SIDE, SPEED_SECONDS = 1024, 0.3  # of the products that measure_matrix_rate computes


@dataclass(frozen=True)
class Estimate:
    """The seconds and bytes that a task will take; None if that is not known."""

    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class MeasuredSection:
    """The cost of a finished section of features: seconds before the first image, and seconds per image."""

    section: Section
    start_seconds: float
    image_seconds: float
    images: int
    image_bytes: float


@dataclass(frozen=True)
class MeasuredRun:
    """The cost of a run: seconds before training, total seconds, bytes, images times epochs, input size."""

    scheme: str
    settings: dict[str, Any]
    precision: str
    start_seconds: float
    seconds: float
    bytes: int
    image_passes: int
    input_size: int


class Measurements:
    """The costs measured in a data folder on this model of processor, and the speed, which is kept there."""

    def __init__(self, data: Path):
        self._data, self._processor = data, machine.describe()["processor"]
        sections = (section for cache in list_folders(data, "cache") for section in published_sections(cache))
        self.sections = list(filter(None, map(self._section, sections)))
        self.runs = list(filter(None, map(self._run, list_folders(data, "run"))))

    def features(self, sections: list[Section], images: int) -> Estimate:
        """Return the estimate for computing sections, all of one backbone, for a number of images."""
        if not sections:
            return Estimate(0.0, 0)
        if not self.sections:
            bytes_left = [section.missing_bytes(images) for section in sections]
            work = sum(
                2 * multiply_adds(section.base, section.layers) * left / (section.row_bytes or 1)
                for section, left in zip(sections, bytes_left, strict=True)
            )
            return Estimate(self._seconds(work, FORWARD, sections[0].base["precision"]), sum(bytes_left))
        seconds, size = 0.0, 0
        for section in sections:
            near = min(self.sections, key=lambda other: _distance(other, section))
            base, layers = near.section.base, near.section.layers
            work = multiply_adds(section.base, section.layers) / multiply_adds(base, layers)
            start = near.start_seconds if section is sections[0] else 0.0
            left = section.missing_bytes(images) / (section.row_bytes * images or 1)  # 0 … 1
            seconds += start + near.image_seconds * work * images * left
            same = all(base[name] == section.base[name] for name in ("pooling", "storage", "input_size"))
            measured = same and layers == section.layers
            size += round((near.image_bytes if measured else section.row_bytes) * images * left)
        return Estimate(seconds, size)

    @functools.cached_property
    def matrix_rate(self) -> float | None:
        """Operations per second of products of float32 matrices; None with a GPU, or if measuring fails."""
        record = self._data / SPEED
        with contextlib.suppress(*FAULTS):
            stored = read_sealed(record)
            if stored["processor"] == self._processor:
                return float(stored["matrix_rate"])
        rate = None
        with contextlib.suppress(HeadstartError, OSError):
            if machine.gpu_capability() is None:
                rate = float(run_in_child("pipeline.upkeep.estimates:measure_matrix_rate", {}))
                if self._data.is_dir():
                    publish_sealed(record, {"processor": self._processor, "matrix_rate": rate})
        return rate

    def work(self, work: float | None, precision: str, images: float) -> Estimate:
        """Return the estimate for training steps with so many forward operations for each image."""
        return Estimate(None if work is None else self._seconds(images * work, TRAINING, precision), None)

    def _seconds(self, operations: float, speeds: dict[str, float], precision: str) -> float | None:
        if self.matrix_rate is None:
            return None
        emulated = precision == "bfloat16" and not machine.native_bfloat16()
        speed = speeds["float32"] / 2 if emulated else speeds[precision]
        return operations / (speed * self.matrix_rate)

    def run(self, fingerprint: dict[str, Any], images: int, work: float | None = None) -> Estimate:
        """Return the estimate for training the run of a fingerprint on a number of training images.

        It scales the most similar measured run of the scheme; without any, it is based on the work for each
        image (see work_of). Except for heads, time after the start grows with the number of pixels.
        """
        scheme = fingerprint["scheme"].partition(":")[0]
        candidates = [run for run in self.runs if run.scheme.partition(":")[0] == scheme]
        if not candidates:
            return self.work(work, fingerprint["precision"], images)

        def distance(run: MeasuredRun) -> tuple[Any, ...]:
            return (
                run.scheme != fingerprint["scheme"],
                abs(run.input_size - fingerprint["input_size"]),
                run.precision != fingerprint["precision"],
                len(differences(run.settings, fingerprint["settings"])),
                -run.image_passes,
            )

        near = min(candidates, key=distance)
        image_passes = images * passes(fingerprint["settings"])
        pixels = 1.0 if scheme.endswith("head") else (fingerprint["input_size"] / near.input_size) ** 2
        training = (near.seconds - near.start_seconds) * image_passes / near.image_passes * pixels
        return Estimate(near.start_seconds + training, near.bytes)

    def training_images(self, dataset: dict[str, Any]) -> int:
        """Return the number of training images of a data set, estimated unless it is prepared."""
        row, total = stored_dataset(dataset), images_of(dataset)
        for folder in list_folders(self._data, "dataset"):
            with contextlib.suppress(*FAULTS):
                manifest = read_manifest(folder)
                if all(manifest.fingerprint[field] == dataset[field] for field in ("name", "split")):
                    counts = manifest.facts["counts"]
                    return round(total * counts["train"] / sum(counts.values()))
        return round(total * ((1 - row.test_fraction) * (1 - row.val_fraction)))

    def _section(self, section: Section) -> MeasuredSection | None:
        with contextlib.suppress(*FAULTS):
            costs = read_sealed(section.folder / COSTS)
            multiply_adds(section.base, section.layers)  # raises for invalid layers and sizes
            image_seconds, images = 1 / float(costs["images_per_second"]), int(costs["images"])
            if costs["processor"] == self._processor:
                return MeasuredSection(
                    section=section,
                    start_seconds=max(0.0, float(costs["seconds"]) - images * image_seconds),
                    image_seconds=image_seconds,
                    images=images,
                    image_bytes=int(costs["bytes"]) / images,
                )
        return None

    def _run(self, folder: Path) -> MeasuredRun | None:
        with contextlib.suppress(*FAULTS):
            recipe, costs = (json.loads((folder / name).read_text("utf-8")) for name in (RECIPE, COSTS))
            if recipe["machine"]["processor"] == self._processor:
                return MeasuredRun(
                    scheme=str(recipe["scheme"]),
                    settings=dict(recipe["settings"]),
                    precision=recipe["precision"],
                    start_seconds=float(costs["stages"].get("start", 0.0)),
                    seconds=float(costs["train_seconds"]),
                    bytes=int(costs["bytes"]),
                    image_passes=int(recipe["n_train"]) * passes(recipe["settings"]) or 1,
                    input_size=int(recipe["input_size"]),
                )
        return None


def measure_matrix_rate(progress: Progress = silent) -> float:
    """Return the floating-point operations per second of float32 products, from a fraction of a second."""
    import numpy as np  # planning must not load it

    matrix = np.random.default_rng(0).standard_normal((SPEED_SIDE, SPEED_SIDE), np.float32)
    matrix @ matrix  # starts the threads
    start, products = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SPEED_SECONDS:
        matrix @ matrix
        products += 1
    return 2.0 * SPEED_SIDE**3 * products / seconds


def work_of(recipe: Any, row: Backbone, input_size: int, *, cached: bool, points: int = 0) -> float | None:
    """Return the forward operations of all epochs of a recipe for one image; None if that is not known.

    With cached, frozen blocks are not computed. points is the number of heads of a sweep.
    """
    if isinstance(recipe, FineTuneRecipe):
        cut, total = recipe.freeze_through, row.multiply_adds(row.taps[-1], input_size)
        frozen = row.multiply_adds(row.taps[cut - 1], input_size) if cut else 0
        ratio = 0.0 if cached else TRAINING["bfloat16"] / FORWARD["bfloat16"]
        step = 2.0 * (total - frozen + ratio * frozen)
        top = DENSE_HEAD if recipe.units else LINEAR_HEAD
        return recipe.epochs * (step + top) + recipe.top_epochs * top
    if isinstance(recipe, ScratchRecipe):
        return 2.0 * recipe.epochs * recipe.multiply_adds(input_size)
    if isinstance(recipe, Head):  # one that is solved directly counts as an epoch
        step = DENSE_HEAD if getattr(recipe, "units", ()) else LINEAR_HEAD
        return getattr(recipe, "epochs", 1) * step * (SWEEP_SHARE * points if points else 1)
    return None


def images_of(dataset: dict[str, Any]) -> int:
    """Return the number of images in a data set, given its fingerprint."""
    return dataset["subset"] or stored_dataset(dataset).size


def passes(settings: dict[str, Any]) -> int:
    """Return the number of passes over the training images; 1 for heads with a direct solver."""
    return max(1, int(settings.get("epochs", 1)))


def _distance(measured: MeasuredSection, section: Section) -> tuple[Any, ...]:
    """Return a sort key that puts the measurements most similar to a section first."""
    base, other = section.base, measured.section.base
    return (
        other["precision"] != base["precision"],
        engine_of(other) != engine_of(base),
        other["backbone"] != base["backbone"],
        measured.section.layers[-1] != section.layers[-1],
        abs(other["input_size"] - base["input_size"]),
        measured.section.layers != section.layers,
        -measured.images,
    )
