"""The layer atlas: the accuracy and cost of features from each block of a backbone, and where to cut."""

from __future__ import annotations

import functools
import logging
from typing import Any

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES
from pipeline.report.atlas.layer_sets import PROBES, layer_sets
from pipeline.views import IDENTITY
from tasks.data import DataTask, DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.recipes import SHARED_WITH_FEATURES
from tasks.task import luigi_command
from tasks.training import FineTune

logger = logging.getLogger("luigi-interface")  # shown with Luigi's own messages


@inherits(PrepareDataset, DownloadWeights)
class LayerAtlas(DataTask):
    """Fit the same heads on each block and on joined blocks, and recommend a cut for fine-tuning.

    Writes to data/reports/atlas/: accuracy by depth with intervals and with nearest neighbors, the accuracy
    of each class, and the cost of extraction up to each depth, as tables, plots and a page.
    """

    kind = "atlas"
    precision = ExtractFeatures.precision
    input_size = ExtractFeatures.input_size
    engine = ExtractFeatures.engine
    storage = ExtractFeatures.storage

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached features of all layers, from the unaugmented images."""
        return self.clone(ExtractFeatures, layers="all", views=IDENTITY)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The layer sets, the heads with the settings to try, and the features."""
        return {
            "sets": [layers.name for layers in layer_sets(BACKBONES[self.backbone].taps)],
            "heads": {head: [setting, *values] for head, (setting, values) in PROBES.items()},
            "features": self.features_task.fingerprint,
        }

    @property
    def label(self) -> str:
        return f"{self.backbone}-{self.weights_choice.name}-{self.prepared.label}"

    @property
    def command(self) -> str:
        """The command that fine-tunes on the same data and weights, without the number of frozen blocks."""
        values = {name: getattr(self, name) for name in SHARED_WITH_FEATURES}
        return luigi_command(FineTune, {"recipe": "whole", **values}, {"recipe": None})

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set and the features of all layers."""
        return {"dataset": self.prepared, "features": self.features_task}

    def make(self) -> None:
        summary = self.in_child(
            "pipeline.report.atlas.report:publish_atlas",
            fingerprint=self.fingerprint,
            command=self.command,
            folder=self.folder,
            **self.folders,
        )
        logger.info("Layer atlas\n%s\nTables and plots are in %s", summary, self.folder)
