"""The tasks that extract features, in one pass or in parts that several workers compute at once."""

import importlib.util
import logging
from typing import Any

import luigi
from luigi.util import inherits

from pipeline.backbones.engines import DEFAULT_ENGINE, ENGINES
from pipeline.datasets.folders import path_name
from pipeline.errors import BadInput
from pipeline.features.sections import (
    LARGEST_INPUT,
    POOLINGS,
    STORAGES,
    base_fingerprint,
    cache_fingerprint,
    missing_sections,
    parse_layers,
    scaling_note,
    why_missing,
)
from pipeline.machine import PRECISIONS, resolve_precision
from pipeline.views import IDENTITY, parse_views
from tasks.data import DataTask, DownloadWeights
from tasks.parameters import OptionalNumber, SchedulerAddress, WholeNumber

MAPS_FIRST = 1000  # Luigi's priority

logger = logging.getLogger("luigi-interface")


def warn_of_scaling(dataset: dict[str, Any], size: int) -> None:
    """Log a line if a default input size leaves out more than half of the images' pixels per side."""
    if note := scaling_note(dataset, size):
        logger.warning(note)


@inherits(DownloadWeights)
class NetworkTask(DataTask):
    """A task that needs a network with weights, at an input size, in a precision, from an engine."""

    input_size = OptionalNumber(
        default=None,
        description=f"pixels per side that the network sees, 32 to {LARGEST_INPUT} "
        f"[default: Keras's for its networks, else the image size, up to {LARGEST_INPUT}]",
    )
    precision = luigi.Parameter(
        default="auto",
        description=f"one of auto, {', '.join(PRECISIONS)}; auto is bfloat16 if the hardware supports it",
    )
    engine = luigi.Parameter(
        default=DEFAULT_ENGINE, description=f"library that computes the network, one of {', '.join(ENGINES)}"
    )


class FeatureTask(NetworkTask):
    """The base of the tasks that extract features, completely or in part."""

    kind = "cache"
    layers = luigi.Parameter(default="all", description="block4_pool,block5_pool, ... or all")
    views = luigi.Parameter(default=IDENTITY, description="such as identity,hflip,left2,hflip+right2")
    pooling = luigi.Parameter(default="average", description=f"one of {', '.join(POOLINGS)} (full maps)")
    storage = luigi.Parameter(default="float32", description=f"one of {', '.join(STORAGES)}")
    averages = luigi.BoolParameter(
        default=False,
        significant=False,
        description="with --pooling none: cache the averages of all layers in the same pass",
    )
    batch_size = WholeNumber(
        default=0,
        significant=False,
        description="images in one forward pass, 0 to choose by input size",
    )
    dask = SchedulerAddress(
        default="",
        significant=False,
        description="extract on a Dask cluster: a scheduler's address, such as tcp://10.0.0.5:8786, or local",
    )
    allow_mixed_workers = luigi.BoolParameter(
        default=False,
        significant=False,
        description="with --dask: also on workers with other processor features or library versions",
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
            engine=self.engine,
        )
        layers, views = parse_layers(self.layers, self.backbone), parse_views(self.views)
        return {**base, "layers": list(layers), "views": list(views)}

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]
        """Luigi's resources: one extraction at a time, except parts, so that one pass can serve the next."""
        return {} if self.share else {"extraction": 1}

    @property
    def priority(self) -> int:  # type: ignore[override]  # Luigi declares a number and reads properties, too
        """Luigi's priority: the request with the most layers and views first, so that one pass serves all.

        A request for maps whose passes also give averages comes before all requests for averages.
        """
        size = len(self.fingerprint["layers"]) * len(self.fingerprint["views"])
        return size + MAPS_FIRST * self.averages

    @property
    def label(self) -> str:
        return f"{self.backbone}-{self.weights_choice.name}-{path_name(self.dataset)}"

    @property
    def identity(self) -> dict[str, Any]:
        """The cache's fingerprint, which is the same for all layers and views."""
        return base_fingerprint(self.fingerprint)

    def why_missing(self) -> str | None:
        """Return which layer of which view is not in a finished section, or None if all are."""
        return why_missing(self.folder, self.fingerprint)

    def requires(self) -> dict[str, luigi.Task]:
        return {"dataset": self.prepared, "weights": self.clone(DownloadWeights)}

    def run(self) -> None:
        """Compute what is missing. Each shard has its own lock, so several processes can share the work."""
        if not self.complete():
            self.make()

    @property
    def share(self) -> dict[str, int]:
        """The number of this part and the number of parts; {} for the complete extraction."""
        return {}

    def make(self) -> None:
        if self.input_size is None:
            warn_of_scaling(self.prepared.fingerprint, self.fingerprint["input_size"])
        function = "pipeline.features.extract:extract"
        more: dict[str, Any] = {"averages": self.by_products, **self.share}
        if self.dask:
            if importlib.util.find_spec("distributed") is None:
                raise BadInput("--dask: Dask is not installed; get it with `pip install 'headstart[dask]'`")
            function = "pipeline.features.cluster:extract"
            more = {"scheduler": self.dask, "allow_mixed": self.allow_mixed_workers}
        self.in_child(
            function,
            request=self.fingerprint,
            dataset=self.prepared.folder,
            weights=self.clone(DownloadWeights).folder,
            folder=self.folder,
            batch_size=self.batch_size or None,
            **more,
        )

    @property
    def by_products(self) -> dict[str, Any] | None:
        """The cache of averages that the passes for these maps also fill, None if they are not asked for."""
        if not self.averages or self.pooling == "average" or self.share or self.dask:
            return None
        task = self.clone(ExtractFeatures, layers="all", pooling="average", storage="float32", averages=False)
        return {"request": task.fingerprint, "folder": task.folder}


class ExtractFeatures(FeatureTask):
    """Run the frozen backbone once over every image and cache the activations of layers in HDF5 shards.

    Cached layers and views are not computed again. With parts above 1, that many tasks share the shards, so
    that several workers can compute at once, on one machine or on many with a shared data folder. With dask,
    the workers of a Dask cluster share them.
    """

    parts = WholeNumber(default=1, low=1, significant=False, description="tasks that share the extraction")

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set, the weights, and the parts if there are several."""
        tasks = super().requires()
        if self.parts > 1 and not (self.dask or self.complete()):
            for part in range(self.parts):
                tasks[f"part {part}"] = self.clone(ExtractPart, part=part, of=self.parts)
        return tasks


class ExtractPart(FeatureTask):
    """Compute every of-th shard of an extraction, starting at shard number part."""

    part = WholeNumber(default=0, description="number of the part, from 0")
    of = WholeNumber(default=1, low=1, description="number of parts")

    @property
    def share(self) -> dict[str, int]:
        return {"part": self.part, "parts": self.of}

    def complete(self) -> bool:
        """Return whether all shards of this part, or the complete extraction, are finished."""
        if self.why_missing() is None:
            return True
        if not self.prepared.complete():
            return False
        count = sum(self.prepared.counts.values())
        return all(
            section.has_shard(number)
            for section in missing_sections(self.folder, self.fingerprint)
            for number in range(self.part, len(section.spans(count)), self.of)
        )
