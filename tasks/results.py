"""The tasks that derive results from one stored run: metric tables, plots, and findings about the data."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import luigi

from pipeline.backbones.table import BACKBONES
from pipeline.recipes.named import find_named, named_recipe
from pipeline.report.table import FINDINGS, PLOTS
from pipeline.results.table import CLASS_SCORES, SCORES
from pipeline.storage import layout
from pipeline.storage.publishing import undamaged_files
from pipeline.views import IDENTITY
from tasks.configuration import data_folder
from tasks.features import ExtractFeatures, NetworkTask
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import recipes_folder
from tasks.task import DerivedTask, Task
from tasks.training import TrainTask, training_task

LAYERS_COMPARED = 3  # the backbone's deepest layers


class RunResultTask(NetworkTask, DerivedTask):
    """A result derived from one run and stored with the run's other reports."""

    rows: ClassVar[dict[str, Iterable[str]]]  # the names of its rows by table; a new row makes it again
    scheme = luigi.Parameter(default="head:linear", description="scheme:recipe, such as head:linear")
    settings = SettingsParameter(default={}, description='settings of the recipe, such as {"epochs": 5}')
    seed = WholeNumber(default=0, description="seed of the run")

    @functools.cached_property
    def run_task(self) -> TrainTask:
        """The training task of the run."""
        scheme, recipe = find_named(recipes_folder(), self.scheme)
        task = training_task(scheme.name)
        own = [name for name in ("space", "storage") if hasattr(task, name)]  # parameters, but no settings
        changes = {name: value for name, value in self.settings.items() if name not in own}
        named_recipe(recipes_folder(), scheme, recipe, changes)  # raises BadInput
        return self.clone(task, recipe=recipe, **self.settings)

    @property
    def sources(self) -> list[Task]:
        return [self.run_task]

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The run, and the names of the rows of tables."""
        return {"run": self.run_task.fingerprint, **{name: [*rows] for name, rows in self.rows.items()}}

    @functools.cached_property
    def folder(self) -> Path:
        return layout.run_reports(data_folder(), self.run_task.folder) / self.kind


class ScoreRun(RunResultTask):
    """Write the metric tables of a run: metrics.csv and metrics.md."""

    kind = "metrics"
    rows = {"scores": SCORES, "class_scores": CLASS_SCORES}

    def make(self) -> None:
        folders = {"run": self.run_task.folder, "folder": self.folder}
        self.publish(self.in_process("pipeline.report.comparison_report:publish_metrics", **folders))


class PlotRun(RunResultTask):
    """Draw the plots of a run: accuracy and loss curves, confusion matrix, accuracy by class."""

    kind = "plots"
    rows = {"plots": PLOTS}

    def make(self) -> None:
        folders = {"run": self.run_task.folder, "folder": self.folder}
        plots = undamaged_files(self.folder, self.facts)
        function = "pipeline.report.comparison_report:publish_run_plots"
        self.publish(self.in_process(function, **folders, up_to_date=plots))


class DataFindings(RunResultTask):
    """Find likely label errors, near-duplicates between train and test, and the hardest images.

    Each is a table and a figure, explained in findings.md next to the run's plots. Label errors and hard
    images come from the run's predictions on val and test; near-duplicates from cached features of the head's
    layers, or of the backbone's last three. For a run without weights, --weights chooses the features.
    """

    kind = "findings"
    rows = {"findings": FINDINGS}

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached features for comparing images, from the unaugmented images."""
        layers = BACKBONES[self.backbone].taps[-LAYERS_COMPARED:]
        if self.run_task.scheme.reads_layers:
            layers = self.run_task.layers_read
        return self.clone(ExtractFeatures, layers=",".join(layers), views=IDENTITY)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The run, the features, and the names of the findings."""
        return {**super().fingerprint, "features": self.features_task.fingerprint}

    def requires(self) -> dict[str, luigi.Task]:
        """Return the run, its data set and the features."""
        return {"run": self.run_task, "dataset": self.prepared, "features": self.features_task}

    def make(self) -> None:
        arguments = {"layers": self.features_task.fingerprint["layers"], "folder": self.folder}
        function = "pipeline.report.findings.report:publish_findings"
        self.publish(self.in_child(function, **arguments, **self.folders))
