"""Metric tables and plots of one run, derived from what it stored."""

from __future__ import annotations

import functools
from pathlib import Path

import luigi
from luigi.util import inherits

from pipeline.recipes.named import find_named, named_recipe
from pipeline.report.table import PLOTS
from pipeline.results.table import CLASS_SCORES, SCORES
from pipeline.storage.publishing import (
    MANIFEST,
    publish_manifest,
    read_manifest,
    sha256_of,
    whole_files,
)
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import recipes_folder
from tasks.task import Task
from tasks.training import TrainTask, training_task


def stamp_of(folder: Path) -> str | None:
    """Return the sha256 of a folder's manifest, which changes with anything in it; None without one."""
    path = folder / MANIFEST
    return sha256_of(path) if path.is_file() else None


@inherits(PrepareDataset, DownloadWeights)
class RunResultTask(Task):
    """A result that is derived from one run; made again when the run was."""

    scheme = luigi.Parameter(default="head:linear", description="scheme:recipe, such as head:linear")
    settings = SettingsParameter(default={}, description='settings of the recipe, such as {"epochs": 5}')
    seed = WholeNumber(default=0, description="seed of the run")
    precision = ExtractFeatures.precision

    @functools.cached_property
    def run_task(self) -> TrainTask:
        """The training task whose result this one looks at."""
        scheme, recipe = find_named(recipes_folder(), self.scheme)
        task = training_task(scheme.name)
        beside = ("space",) if "sweep" in scheme.needs else ()  # a parameter of the task, no setting
        given = {name: value for name, value in self.settings.items() if name not in beside}
        named_recipe(recipes_folder(), scheme, recipe, given)
        return self.clone(task, recipe=recipe, **self.settings)

    def requires(self) -> luigi.Task:
        """Return the run."""
        return self.run_task

    def complete(self) -> bool:
        """Say whether the result is there, whole, and of the run as it is now."""
        if not (self.run_task.complete() and super().complete()):
            return False
        return read_manifest(self.folder).facts == self.facts

    @property
    def facts(self) -> dict:
        """What tells whether the run is still the one that this result was derived from."""
        return {"run": stamp_of(self.run_task.folder)}

    def publish(self, files: list[str]) -> None:
        """Finish the result's folder."""
        publish_manifest(self.folder, self.fingerprint, files, self.facts)


class ScoreRun(RunResultTask):
    """Write the metric tables of a run: metrics.csv and metrics.md."""

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The run, and the names of the scores: a new row of SCORES makes the tables anew."""
        return {"run": self.run_task.fingerprint, "scores": [*SCORES], "class_scores": [*CLASS_SCORES]}

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the tables, beside the run's plots."""
        return self.run_task.reports / "metrics"

    def make(self) -> None:
        folders = {"run": self.run_task.folder, "folder": self.folder}
        self.publish(self.in_process("pipeline.report.run_report:publish_metrics", **folders))


class PlotRun(RunResultTask):
    """Draw the plots of a run: accuracy and loss over time, confusion matrix, accuracy by class."""

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The run, and the names of the plots: a new row of PLOTS is drawn beside the old ones."""
        return {"run": self.run_task.fingerprint, "plots": [*PLOTS]}

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the plots, beside the run's metric tables."""
        return self.run_task.reports / "plots"

    def make(self) -> None:
        folders = {"run": self.run_task.folder, "folder": self.folder}
        kept = whole_files(self.folder, self.facts)
        self.publish(self.in_process("pipeline.report.run_report:publish_plots", **folders, kept=kept))
