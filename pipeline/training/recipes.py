"""The recipes of networks that see images: what is trained and how, one row each; heads have their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.datasets.labels import ALL_LABELS, parse_budget
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import BadInput
from pipeline.networks.build import NECKS
from pipeline.networks.notation import parse_conv_blocks, parse_dense_blocks
from pipeline.training.optimizers import OPTIMIZERS, SCHEDULES
from pipeline.training.settings import setting


@dataclass(frozen=True)
class Labelled:
    """What all recipes share: a name, and the training labels that are given."""

    name: str
    title: str
    labels: str = setting(
        ALL_LABELS, "training labels that are given, such as 5% or 25/class, with #1 behind for another draw"
    )

    def check(self) -> None:
        """Raise BadInput where settings cannot be read or contradict each other."""
        parse_budget(self.labels)


@dataclass(frozen=True)
class Training(Labelled):
    """How weights are updated; shared by all recipes of networks."""

    epochs: int = setting(20, "passes over the training images", low=0, high=10_000)
    stretch: bool = setting(
        False, "whether fewer labels are passed over more often: epochs / sqrt(share of the labels)"
    )
    batch_size: int = setting(128, "images in one update", low=1, high=8192)
    optimizer: str = setting("adamw", "rule of the updates", choices=tuple(OPTIMIZERS))
    learning_rate: float = setting(1e-3, "largest step size", low=0.0, high=100.0)
    schedule: str = setting("cosine", "course of the step size over the updates", choices=tuple(SCHEDULES))
    warmup: float = setting(0.05, "share of the updates over which the step size rises", low=0.0, high=0.9)
    weight_decay: float = setting(1e-4, "decoupled decay of kernels", low=0.0, high=10.0)
    label_smoothing: float = setting(0.0, "share of a label spread over all classes", low=0.0, high=0.9)


@dataclass(frozen=True)
class Augmented(Training):
    """A training from images, which are varied anew in every epoch."""

    flip: bool = setting(True, "flip half of the images, left to right")
    shift: int = setting(2, "largest shift in pixels, edges reflected", low=0, high=IMAGE_SIZE // 2)


@dataclass(frozen=True)
class FineTuneRecipe(Augmented):
    """A pretrained backbone with a fresh top: the top is fitted first, then all that is not frozen."""

    freeze_through: int = setting(0, "blocks that keep their weights, counted from the input", low=0, high=5)
    dense_blocks: str = setting("dense - dropout", "dense blocks of the top in the notation")
    units: tuple[int, ...] = setting((512,), "units of each dense block of the top", low=1, high=65536)
    dropout: float = setting(0.5, "dropout rate where the block gives none", low=0.0, high=0.95)
    top_epochs: int = setting(
        10, "passes in which only the top is fitted, on cached features", low=0, high=10_000
    )
    top_learning_rate: float = setting(1e-3, "largest step size while the top is fitted", low=0.0, high=100.0)

    def check(self) -> None:
        """Raise BadInput when the dense blocks cannot be read."""
        super().check()
        parse_dense_blocks(self.dense_blocks, max(1, len(self.units)))


@dataclass(frozen=True)
class ScratchRecipe(Augmented):
    """A network written in the notation and trained from random weights."""

    conv_blocks: str = setting("conv - batch norm - conv - maxpool - dropout", "blocks in the notation")
    filters: tuple[int, ...] = setting((32, 64, 128), "filters of each conv block", low=1, high=8192)
    dropout: float = setting(0.2, "dropout rate of conv blocks where the text gives none", low=0.0, high=0.95)
    neck: str = setting("flatten", "how the last map becomes a vector", choices=NECKS)
    dense_blocks: str = setting("dense - batch norm - dropout", "dense blocks in the notation")
    units: tuple[int, ...] = setting((512,), "units of each dense block", low=1, high=65536)
    dense_dropout: float = setting(0.5, "dropout rate of dense blocks", low=0.0, high=0.95)

    def check(self) -> None:
        """Raise BadInput when a block cannot be read or the pools leave nothing of the image."""
        super().check()
        parse_dense_blocks(self.dense_blocks, max(1, len(self.units)))
        if not self.filters:
            raise BadInput("setting filters: expected one number or more, received none")
        blocks = parse_conv_blocks(self.conv_blocks, len(self.filters))
        pools = [step.size or 2 for block in blocks for step in block if step.word.kind == "pool"]
        if math.prod(pools) > IMAGE_SIZE:
            raise BadInput(
                f"conv blocks {self.conv_blocks!r} with {len(self.filters)} filter numbers: their pools "
                f"divide the image by {math.prod(pools)}, expected {IMAGE_SIZE} at most; use fewer of them"
            )


def rows_by_name(*rows):
    """Return a table of rows by their names."""
    return {row.name: row for row in rows}


FINE_TUNE_RECIPES: dict[str, FineTuneRecipe] = rows_by_name(
    FineTuneRecipe(
        name="top_only",
        title="all blocks frozen",
        freeze_through=5,
        epochs=3,
        learning_rate=1e-4,
    ),
    FineTuneRecipe(
        name="block5",
        title="block 5 moves",
        freeze_through=4,
        epochs=5,
        learning_rate=1e-4,
    ),
    FineTuneRecipe(
        name="blocks4_5",
        title="blocks 4 and 5 move",
        freeze_through=3,
        epochs=5,
        learning_rate=1e-4,
    ),
    FineTuneRecipe(
        name="whole",
        title="all blocks move",
        freeze_through=0,
        epochs=5,
        learning_rate=1e-4,
    ),
)

SCRATCH_RECIPES: dict[str, ScratchRecipe] = rows_by_name(
    ScratchRecipe(
        name="lesson",
        title="conv - batch norm - conv - maxpool - dropout",
        epochs=15,
        learning_rate=3e-3,
    ),
    ScratchRecipe(
        name="lesson-norm-first",
        title="batch norm - conv - batch norm - conv - maxpool - dropout",
        conv_blocks="batch norm - conv - batch norm - conv - maxpool - dropout",
        epochs=15,
        learning_rate=3e-3,
    ),
    ScratchRecipe(
        name="lesson-norm-twice",
        title="conv - batch norm - conv - batch norm - maxpool",
        conv_blocks="conv - batch norm - conv - batch norm - maxpool",
        epochs=15,
        learning_rate=3e-3,
    ),
    ScratchRecipe(
        name="lesson-dropout",
        title="conv - dropout - conv - dropout - maxpool",
        conv_blocks="conv - dropout - conv - dropout - maxpool",
        epochs=15,
    ),
    ScratchRecipe(
        name="vgg16",
        title="VGG16 for 32 px",
        conv_blocks=" | ".join(["conv - conv - maxpool"] * 2 + ["conv - conv - conv - maxpool"] * 3),
        filters=(64, 128, 256, 512, 512),
        dense_blocks="dense - dropout",
        epochs=30,
        learning_rate=3e-4,
    ),
)
