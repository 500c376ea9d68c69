"""The feature cache as a task."""

from __future__ import annotations

import luigi
from luigi.util import inherits

from pipeline.features.extract import BATCH_SIZE, extract
from pipeline.features.fingerprint import POOLINGS, feature_fingerprint
from pipeline.machine import PRECISIONS, resolve_precision
from tasks.data import DownloadWeights, PrepareDataset
from tasks.parameters import WholeNumber
from tasks.task import Task


@inherits(PrepareDataset, DownloadWeights)
class ExtractFeatures(Task):
    """Run the frozen backbone once over every image and cache what the named layers saw, in HDF5 shards."""

    layers = luigi.Parameter(default="all", description="block1_pool ... block5_pool by commas, or all")
    pooling = luigi.Parameter(default="average", description=f"one of {', '.join(POOLINGS)} (whole maps)")
    precision = luigi.Parameter(
        default="auto",
        description=f"one of auto, {', '.join(PRECISIONS)}; auto is bfloat16 where the machine has it",
    )
    batch_size = WholeNumber(
        default=BATCH_SIZE, low=1, significant=False, description="images in one forward pass"
    )

    @property
    def fingerprint(self) -> dict:
        weights = self.clone(DownloadWeights)
        return feature_fingerprint(
            self.clone(PrepareDataset).fingerprint,
            backbone=self.backbone,
            weights=weights.choice,
            layers=self.layers,
            pooling=self.pooling,
            precision=resolve_precision(self.precision),
        )

    @property
    def place(self) -> str:
        return f"features/{self.backbone}-{self.clone(DownloadWeights).choice.name}-{self.dataset}"

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set and the weights."""
        return {"dataset": self.clone(PrepareDataset), "weights": self.clone(DownloadWeights)}

    def make(self) -> None:
        needed = self.requires()
        self.in_child(
            extract,
            fingerprint=self.fingerprint,
            dataset=needed["dataset"].folder,
            weights=needed["weights"].folder,
            folder=self.folder,
            batch_size=self.batch_size,
        )
