"""What is derived from one run and what it stored: metric tables, plots, and findings about the data."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES
from pipeline.recipes.named import find_named, named_recipe
from pipeline.report.table import FINDINGS, PLOTS, findings_files
from pipeline.results.table import CLASS_SCORES, SCORES
from pipeline.storage.publishing import whole_files
from pipeline.views import IDENTITY
from tasks.data import DataTask, DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import recipes_folder
from tasks.task import DerivedTask, Task, stamp_of
from tasks.training import TrainTask, training_task

LAYERS_COMPARED = 3  # of the backbone, the deepest: what heads read unless they say


@inherits(PrepareDataset, DownloadWeights)
class RunResultTask(DataTask, DerivedTask):
    """A result that is derived from one run, in a folder beside others of the run."""

    scheme = luigi.Parameter(default="head:linear", description="scheme:recipe, such as head:linear")
    settings = SettingsParameter(default={}, description='settings of the recipe, such as {"epochs": 5}')
    seed = WholeNumber(default=0, description="seed of the run")
    precision = ExtractFeatures.precision

    @functools.cached_property
    def run_task(self) -> TrainTask:
        """The training task whose result this one looks at."""
        scheme, recipe = find_named(recipes_folder(), self.scheme)
        beside = ("space",) if "sweep" in scheme.needs else ()  # a parameter of the task, no setting
        given = {name: value for name, value in self.settings.items() if name not in beside}
        named_recipe(recipes_folder(), scheme, recipe, given)
        return self.clone(training_task(scheme.name), recipe=recipe, **self.settings)

    @property
    def sources(self) -> list[Task]:
        return [self.run_task]

    @property
    def facts(self) -> dict[str, Any]:
        """What tells whether the run is still the one that this result was derived from."""
        return {"run": stamp_of(self.run_task.folder)}

    @functools.cached_property
    def folder(self) -> Path:
        return self.run_task.reports / self.kind


class ScoreRun(RunResultTask):
    """Write the metric tables of a run: metrics.csv and metrics.md."""

    kind = "metrics"

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The run, and the names of the scores: a new row of SCORES makes the tables anew."""
        return {"run": self.run_task.fingerprint, "scores": [*SCORES], "class_scores": [*CLASS_SCORES]}

    def make(self) -> None:
        folders = {"run": self.run_task.folder, "folder": self.folder}
        self.publish(self.in_process("pipeline.report.comparison_report:publish_metrics", **folders))


class PlotRun(RunResultTask):
    """Draw the plots of a run: accuracy and loss over time, confusion matrix, accuracy by class."""

    kind = "plots"

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The run, and the names of the plots: a new row of PLOTS is drawn beside the old ones."""
        return {"run": self.run_task.fingerprint, "plots": [*PLOTS]}

    def make(self) -> None:
        folders = {"run": self.run_task.folder, "folder": self.folder}
        kept = whole_files(self.folder, self.facts)
        self.publish(self.in_process("pipeline.report.comparison_report:publish_plots", **folders, kept=kept))


class DataFindings(RunResultTask):
    """Find likely label errors, near-duplicates between train and test, and the hardest images.

    Each is a table and a picture, explained in findings.md beside the run's plots. The run's answers on val
    and test tell label errors and hard images; cached features of the layers that a head reads, or of the
    backbone's last three, tell near-duplicates. The weights choose the features of a run that has none.
    """

    kind = "findings"

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached features that images are compared by, each image as it is."""
        layers = BACKBONES[self.backbone].taps[-LAYERS_COMPARED:]
        if self.run_task.scheme.reads_layers:
            layers = self.run_task.layers_read
        return self.clone(ExtractFeatures, layers=",".join(layers), views=IDENTITY)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The run, the features, and the names of the findings."""
        run, features = self.run_task.fingerprint, self.features_task.fingerprint
        return {"run": run, "features": features, "findings": [*FINDINGS]}

    def requires(self) -> dict[str, luigi.Task]:
        """Return the run, its data set and the features."""
        return {"run": self.run_task, "dataset": self.prepared, "features": self.features_task}

    def make(self) -> None:
        self.in_child(
            "pipeline.report.findings.report:publish_findings",
            layers=self.features_task.fingerprint["layers"],
            folder=self.folder,
            **self.folders,
        )
        self.publish(findings_files())
