"""What a run and cached features say about the data."""

from __future__ import annotations

import functools
from pathlib import Path

import luigi

from pipeline.backbones.table import BACKBONES
from pipeline.report.table import FINDINGS, findings_files
from pipeline.views import IDENTITY
from tasks.data import PrepareDataset
from tasks.features import ExtractFeatures
from tasks.results import RunResultTask

LAYERS_COMPARED = 3  # of the backbone, the deepest: what heads read unless they say


class DataFindings(RunResultTask):
    """Find likely label errors, near-duplicates between train and test, and the hardest images.

    Each is a table and a picture, explained in findings.md beside the run's plots. The run's answers on val
    and test tell label errors and hard images; cached features of the layers that a head reads, or of the
    backbone's last three, tell near-duplicates. The weights choose the features of a run that has none.
    """

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached features that images are compared by, each image as it is."""
        reads_layers = "layers" in self.run_task.scheme.settings
        layers = (
            self.run_task.layers_read if reads_layers else BACKBONES[self.backbone].taps[-LAYERS_COMPARED:]
        )
        return self.clone(ExtractFeatures, layers=",".join(layers), views=IDENTITY)

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The run, the features, and the names of the findings."""
        return {
            "run": self.run_task.fingerprint,
            "features": self.features_task.fingerprint,
            "findings": [*FINDINGS],
        }

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the findings, beside the run's metric tables and plots."""
        return self.run_task.reports / "findings"

    def requires(self) -> dict[str, luigi.Task]:
        """Return the run, its data set and the features."""
        return {
            "run": self.run_task,
            "dataset": self.clone(PrepareDataset),
            "features": self.features_task,
        }

    def make(self) -> None:
        folders = {name: task.folder for name, task in self.requires().items()}
        layers = self.features_task.fingerprint["layers"]
        self.in_child(
            "pipeline.report.findings.report:publish_findings", layers=layers, folder=self.folder, **folders
        )
        self.publish(findings_files())
