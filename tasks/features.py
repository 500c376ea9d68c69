"""The feature cache as tasks: whole, or in parts that several workers make at the same time."""

from __future__ import annotations

from typing import Any

import luigi
from luigi.util import inherits

from pipeline.datasets.folders import path_name
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.features.sections import (
    POOLINGS,
    STORAGES,
    cache_fingerprint,
    missing_sections,
    parse_layers,
    why_missing,
    without_columns,
)
from pipeline.machine import PRECISIONS, resolve_precision
from pipeline.views import IDENTITY, parse_views
from tasks.data import DataTask, DownloadWeights, PrepareDataset
from tasks.parameters import WholeNumber


def request_of(fingerprint: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Return the cache's own fingerprint, the layers and the views of a task's fingerprint."""
    return without_columns(fingerprint), tuple(fingerprint["layers"]), tuple(fingerprint["views"])


@inherits(PrepareDataset, DownloadWeights)
class FeatureTask(DataTask):
    """What the whole extraction and a part of it have in common."""

    kind = "cache"
    layers = luigi.Parameter(default="all", description="block1_pool ... block5_pool by commas, or all")
    views = luigi.Parameter(
        default=IDENTITY, description="identity, hflip, left2, up1, hflip+right2, ... by commas"
    )
    pooling = luigi.Parameter(default="average", description=f"one of {', '.join(POOLINGS)} (whole maps)")
    input_size = WholeNumber(default=IMAGE_SIZE, description="pixels that images are resized to, up to 224")
    precision = luigi.Parameter(
        default="auto",
        description=f"one of auto, {', '.join(PRECISIONS)}; auto is bfloat16 where the machine has it",
    )
    storage = luigi.Parameter(default="float32", description=f"one of {', '.join(STORAGES)}")
    batch_size = WholeNumber(
        default=0,
        significant=False,
        description="images in one forward pass, 0 for what suits the input size",
    )

    @property
    def fingerprint(self) -> dict[str, Any]:
        base = cache_fingerprint(
            self.prepared.fingerprint,
            backbone=self.backbone,
            weights=self.weights_choice,
            pooling=self.pooling,
            input_size=self.input_size,
            precision=resolve_precision(self.precision),
            storage=self.storage,
        )
        layers, views = parse_layers(self.layers, self.backbone), parse_views(self.views)
        return {**base, "layers": list(layers), "views": list(views)}

    @property
    def priority(self) -> int:  # type: ignore[override]  # Luigi declares a number and reads properties, too
        """Luigi's order among tasks that could start: the widest first, so that one pass serves all."""
        return len(self.fingerprint["layers"]) * len(self.fingerprint["views"])

    @property
    def label(self) -> str:
        return f"{self.backbone}-{self.weights_choice.name}-{path_name(self.dataset)}"

    @property
    def identity(self) -> dict[str, Any]:
        """What names the cache, which is the same for all layers and views."""
        return without_columns(self.fingerprint)

    def why_missing(self) -> str | None:
        """Return which layer of which view is not in a finished section, or None when all are."""
        return why_missing(self.folder, *request_of(self.fingerprint))

    def requires(self) -> dict[str, luigi.Task]:
        return {"dataset": self.prepared, "weights": self.clone(DownloadWeights)}

    def run(self) -> None:
        """Compute what is missing; others that do the same are met shard by shard, without a lock for all."""
        if not self.complete():
            self.make()

    @property
    def share(self) -> dict[str, int]:
        """Which part of the extraction is computed, and of how many; {} for all of it."""
        return {}

    def make(self) -> None:
        base, layers, views = request_of(self.fingerprint)
        self.in_child(
            "pipeline.features.extract:extract",
            base=base,
            layers=layers,
            views=views,
            dataset=self.prepared.folder,
            weights=self.clone(DownloadWeights).folder,
            folder=self.folder,
            batch_size=self.batch_size or None,
            **self.share,
        )


class ExtractFeatures(FeatureTask):
    """Run the frozen backbone once over every image and cache what the named layers saw, in HDF5 shards.

    Layers and views that are cached already are not computed again. With parts above 1, as many tasks
    share the shards, so that several workers, on one machine or many with a shared data folder, work at once.
    """

    parts = WholeNumber(default=1, low=1, significant=False, description="tasks that share the extraction")

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set, the weights, and the parts where there are several."""
        needed = super().requires()
        if self.parts > 1 and not self.complete():
            for part in range(self.parts):
                needed[f"part {part}"] = self.clone(ExtractPart, part=part, of=self.parts)
        return needed


class ExtractPart(FeatureTask):
    """Compute every of-th shard of an extraction, from number part on."""

    part = WholeNumber(default=0, description="which part, counted from 0")
    of = WholeNumber(default=1, low=1, description="how many parts there are")

    @property
    def share(self) -> dict[str, int]:
        return {"part": self.part, "parts": self.of}

    def complete(self) -> bool:
        """Say whether all shards of this part are finished, or the whole extraction is."""
        if self.why_missing() is None:
            return True
        if not self.prepared.complete():
            return False
        count = sum(self.prepared.counts.values())
        return all(
            section.has_shard(number)
            for section in missing_sections(self.folder, *request_of(self.fingerprint))
            for number in range(self.part, len(section.spans(count)), self.of)
        )
