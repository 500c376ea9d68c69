"""The layer atlas: what each block of a backbone knows of a data set, what it costs, and where to cut."""

from __future__ import annotations

import functools
import logging
import shlex

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES
from pipeline.datasets.folders import path_name
from pipeline.report.atlas.layer_sets import PROBES, layer_sets
from pipeline.storage import layout
from pipeline.views import IDENTITY
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.task import Task

logger = logging.getLogger("luigi-interface")  # what Luigi's users watch


@inherits(PrepareDataset, DownloadWeights)
class LayerAtlas(Task):
    """Probe every block alone and the useful joins with the same heads, and name a cut for fine-tuning.

    In data/reports/atlas/: accuracy by depth with intervals, nearest neighbours beside it, the accuracy of
    each class, and the cost of extraction up to each depth, as tables, pictures and a page.
    """

    precision = ExtractFeatures.precision
    input_size = ExtractFeatures.input_size
    storage = ExtractFeatures.storage

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached features of all layers, each image as it is."""
        return self.clone(ExtractFeatures, layers="all", views=IDENTITY)

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The layer sets, the heads with what is tried of them, and the features."""
        return {
            "sets": [layers.name for layers in layer_sets(BACKBONES[self.backbone].taps)],
            "heads": {head: [setting, *values] for head, (setting, values) in PROBES.items()},
            "features": self.features_task.fingerprint,
        }

    @property
    def weights_name(self) -> str:
        """The weights as tables show them."""
        return self.clone(DownloadWeights).choice.name

    @property
    def of_random_weights(self) -> bool:
        """Say whether the features are a control, of weights that were never trained."""
        return self.clone(DownloadWeights).choice.kind == "random"

    @property
    def place(self) -> str:
        data = path_name(self.dataset)
        parts = [self.backbone, self.weights_name, data, *([str(self.subset)] if self.subset else [])]
        return f"{layout.folder_of('atlas')}/{'-'.join(parts)}"

    @property
    def command(self) -> str:
        """The command that fine-tunes on the same data and weights, but for the number of frozen blocks."""
        words, known = (
            ["luigi", "--module", "tasks", "FineTune", "--recipe", "whole"],
            dict(self.get_params()),
        )
        for name in ("dataset", "subset", "split_seed", "backbone", "weights", "precision"):
            value = getattr(self, name)
            if value != known[name].task_value(self.task_family, name):
                words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join(words)

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set and the features of all layers."""
        return {"dataset": self.clone(PrepareDataset), "features": self.features_task}

    def make(self) -> None:
        folders = {name: task.folder for name, task in self.requires().items()}
        order = {"fingerprint": self.fingerprint, "command": self.command}
        words = self.in_child(
            "pipeline.report.atlas.report:publish_atlas", **order, **folders, folder=self.folder
        )
        logger.info("Layer atlas\n%s\nTables and pictures are in %s", words, self.folder)
