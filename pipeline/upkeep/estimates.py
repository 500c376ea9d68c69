"""How long a task will take and how much room it will need, from what was measured on this machine."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import machine
from pipeline.datasets.lookup import stored_dataset
from pipeline.errors import DamagedFile
from pipeline.features.sections import Section, known_sections, multiply_adds
from pipeline.storage.fingerprint import differences
from pipeline.storage.layout import COSTS, RECIPE, begun
from pipeline.storage.publishing import read_manifest, read_sealed

FAULTS = (  # of files that are not what they should be
    DamagedFile,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    ZeroDivisionError,
)


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes that a task will take; None for what was not measured on this machine."""

    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class MeasuredSection:
    """What a finished section of features cost: seconds before the first image, and seconds an image."""

    base: dict[str, Any]
    layers: tuple[str, ...]
    start_seconds: float
    image_seconds: float
    images: int
    image_bytes: float


@dataclass(frozen=True)
class MeasuredRun:
    """What a run cost: seconds before its training, seconds in all, bytes, images times epochs."""

    scheme: str
    settings: dict[str, Any]
    precision: str
    start_seconds: float
    seconds: float
    bytes: int
    seen: int


class Measurements:
    """The costs below a data folder that were measured on a processor like this one; nothing is changed."""

    def __init__(self, data: Path):
        self._data, self._processor = data, machine.describe()["processor"]
        known = (section for cache in begun(data, "cache") for section in known_sections(cache))
        self.sections = list(filter(None, map(self._section, known)))
        self.runs = list(filter(None, map(self._run, begun(data, "run"))))

    def features(self, sections: list[Section], images: int) -> Estimate:
        """Return what it takes to compute sections, all of one backbone, for so many images."""
        if not sections:
            return Estimate(0.0, 0)
        if not self.sections:
            return Estimate(None, sum(section.row_bytes for section in sections) * images)
        seconds, size = 0.0, 0
        for section in sections:
            near = min(self.sections, key=lambda found: _distance(found, section))
            work = multiply_adds(section.base, section.layers) / multiply_adds(near.base, near.layers)
            start = near.start_seconds if section is sections[0] else 0.0
            seconds += start + near.image_seconds * work * images
            same = all(near.base[name] == section.base[name] for name in ("pooling", "storage", "input_size"))
            measured = same and near.layers == section.layers
            size += round((near.image_bytes if measured else section.row_bytes) * images)
        return Estimate(seconds, size)

    def run(self, fingerprint: dict[str, Any], images: int) -> Estimate:
        """Return what it takes to train the run of a fingerprint on so many training images.

        Runs of the same recipe are looked at first, then of the same scheme; among them the one whose
        precision and settings differ least. What comes before the training is not scaled.
        """
        kind = fingerprint["scheme"].partition(":")[0]
        alike = [run for run in self.runs if run.scheme.partition(":")[0] == kind]
        if not alike:
            return Estimate(None, None)

        def distance(run: MeasuredRun) -> tuple[Any, ...]:
            return (
                run.scheme != fingerprint["scheme"],
                run.precision != fingerprint["precision"],
                len(differences(run.settings, fingerprint["settings"])),
                -run.seen,
            )

        near = min(alike, key=distance)
        seen = images * passes(fingerprint["settings"])
        training = (near.seconds - near.start_seconds) * seen / near.seen
        return Estimate(near.start_seconds + training, near.bytes)

    def images(self, dataset: dict[str, Any], split: str | None = None) -> int:
        """Return how many images, of a split or in all, a data set of this fingerprint has, or about has."""
        row = stored_dataset(dataset)
        total = dataset["subset"] or row.size
        if split is None:
            return total
        for folder in begun(self._data, "dataset"):
            with contextlib.suppress(*FAULTS):
                manifest = read_manifest(folder)
                if all(manifest.fingerprint[field] == dataset[field] for field in ("name", "split")):
                    counts = manifest.facts["counts"]
                    return round(total * counts[split] / sum(counts.values()))
        rest = 1 - row.test_fraction
        shares = {"test": row.test_fraction, "val": rest * row.val_fraction}
        return round(total * shares.get(split, rest * (1 - row.val_fraction)))

    def _section(self, section: Section) -> MeasuredSection | None:
        with contextlib.suppress(*FAULTS):
            costs = read_sealed(section.folder / COSTS)
            multiply_adds(section.base, section.layers)  # raises for layers and sizes that are none
            image_seconds, images = 1 / float(costs["images_per_second"]), int(costs["images"])
            if costs["processor"] == self._processor:
                return MeasuredSection(
                    base=section.base,
                    layers=section.layers,
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
                    seen=int(recipe["n_train"]) * passes(recipe["settings"]) or 1,
                )
        return None


def passes(settings: dict[str, Any]) -> int:
    """Return how often a recipe's training sees its images; heads that are solved count as one pass."""
    return max(1, int(settings.get("epochs", 1)))


def _distance(found: MeasuredSection, wanted: Section) -> tuple[Any, ...]:
    """Return what sorts measured sections by how much they tell about a wanted one, the best first."""
    base = wanted.base
    return (
        found.base["precision"] != base["precision"],
        found.base["backbone"] != base["backbone"],
        found.layers[-1] != wanted.layers[-1],
        abs(found.base["input_size"] - base["input_size"]),
        found.layers != wanted.layers,
        -found.images,
    )
