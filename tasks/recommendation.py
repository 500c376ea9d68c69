"""The task that recommends an input size, layers and a cut for a data set."""

import functools
import logging
from typing import Any

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES
from tasks.data import DataTask, DownloadWeights
from tasks.features import ExtractFeatures
from tasks.parameters import WholeNumber
from tasks.task import command_of

logger = logging.getLogger("luigi-interface")  # shown with Luigi's own messages

SIZES = (32, 48, 64, 96, 128, 160, 224)  # pixels per side


@inherits(DownloadWeights)
class Recommend(DataTask):
    """Measure input sizes and joined layers on a subset of train and val; recommend what to train and how.

    Writes recommendation.txt, .csv, .json and .png to data/reports/recommendation/.
    """

    kind = "recommendation"
    precision = ExtractFeatures.precision
    engine = ExtractFeatures.engine
    budget = WholeNumber(default=300, low=10, description="seconds that the measurement may take")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The budget, and the features of each input size: SIZES and the images' own."""
        sizes = {*filter(BACKBONES[self.backbone].accepts, SIZES), self.network_size(None)}
        tasks = [self.clone(ExtractFeatures, layers="all", input_size=size) for size in sorted(sizes)]
        return {"budget": self.budget, "features": [task.identity for task in tasks]}

    @property
    def label(self) -> str:
        return f"{self.backbone}-{self.weights_choice.name}-{self.prepared.label}"

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set and the weights."""
        return {"dataset": self.prepared, "weights": self.clone(DownloadWeights)}

    def make(self) -> None:
        shared = {name: value for name, value in self.param_kwargs.items() if name != "budget"}
        text = self.in_child(
            "pipeline.report.recommendation.report:recommend",
            fingerprint=self.fingerprint,
            command=command_of("train", Recommend, shared, {"dataset": None}),
            folder=self.folder,
            **self.folders,
        )
        logger.info("%s\nPicture: %s", text, self.folder / "recommendation.png")
