"""The recipes of networks that see images: what is trained and how, one row each; heads have their own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.datasets.labels import ALL_LABELS, parse_budget
from pipeline.datasets.split import FIT_ON
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import BadInput
from pipeline.features.views import IDENTITY, MIRRORED, parse_views
from pipeline.networks.build import NECKS
from pipeline.networks.notation import parse_conv_blocks, parse_dense_blocks
from pipeline.networks.starts import PATCH, STARTS, STEMS
from pipeline.training.averaging import AVERAGES
from pipeline.training.optimizers import OPTIMIZERS, SCHEDULES
from pipeline.training.settings import setting
from pipeline.tuning.space import Axis, Choice, Range

Row = TypeVar("Row", bound="Labelled")

BLOCKS = 5  # of every backbone, counted from the input
LESSON_BLOCKS = {
    "lesson": "conv - batch norm - conv - maxpool - dropout",
    "lesson-norm-first": "batch norm - conv - batch norm - conv - maxpool - dropout",
    "lesson-norm-twice": "conv - batch norm - conv - batch norm - maxpool",
    "lesson-dropout": "conv - dropout - conv - dropout - maxpool",
}
LESSON_DENSE_BLOCKS = {  # by the names of the dense heads; the first is that of a recipe without a suffix
    "dense-bn-dropout": "dense - batch norm - dropout",
    "dense-bn": "dense - batch norm",
    "dense": "dense - dropout",
}


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
    lr_schedule: str = setting(
        "cosine", "course of the learning rate over the updates", choices=tuple(SCHEDULES)
    )
    warmup: float = setting(0.05, "share of the updates over which the step size rises", low=0.0, high=0.9)
    weight_decay: float = setting(1e-4, "decoupled decay of kernels", low=0.0, high=10.0)
    label_smoothing: float = setting(0.0, "share of a label spread over all classes", low=0.0, high=0.9)


@dataclass(frozen=True)
class Augmented(Training):
    """A training from images, which are varied anew in every epoch."""

    flip: bool = setting(True, "flip half of the images, left to right")
    shift: int = setting(2, "largest shift in pixels, edges reflected", low=0, high=IMAGE_SIZE // 2)
    alternate: bool = setting(
        False, "where images are flipped: each in every other epoch, instead of half of them at random"
    )
    averaging: str = setting("none", "average of the weights over the training", choices=tuple(AVERAGES))
    test_views: tuple[str, ...] = setting(
        (IDENTITY,), "views of an image over which the finished network averages its answers"
    )

    def check(self) -> None:
        """Raise BadInput when a view cannot be read."""
        super().check()
        parse_views(",".join(self.test_views))


FINE_TUNE_SPACE: dict[str, Axis] = {
    "freeze_through": Choice((0, 2, 3, 4)),
    "learning_rate": Range(1e-5, 1e-3, log=True),
    "weight_decay": Range(1e-5, 1e-1, log=True),
    "label_smoothing": Range(0.0, 0.2),
    "dropout": Range(0.0, 0.7),
    "dense_blocks": Choice(tuple(LESSON_DENSE_BLOCKS.values())),
    "units": Choice(((256,), (512,), (1024,))),
}
SCRATCH_SPACE: dict[str, Axis] = {
    "learning_rate": Range(3e-4, 3e-2, log=True),
    "weight_decay": Range(1e-4, 1e-1, log=True),
    "batch_size": Choice((64, 128, 256)),
    "label_smoothing": Range(0.0, 0.2),
    "conv_blocks": Choice(tuple(LESSON_BLOCKS.values())),
    "filters": Choice(((32, 64, 128), (48, 96, 192), (64, 128, 256))),
    "dropout": Range(0.0, 0.5),
    "dense_blocks": Choice(tuple(LESSON_DENSE_BLOCKS.values())),
    "dense_dropout": Range(0.0, 0.7),
}


PREFIXES = ("auto", "cache", "images")


@dataclass(frozen=True)
class FineTuneRecipe(Augmented):
    """A pretrained backbone with a fresh top: the top is fitted first, then all that is not frozen.

    The top is the best of a sweep on cached features. What is frozen all the time can be computed once and
    cached, instead of in every epoch (see training.prefix).
    """

    freeze_through: int = setting(
        0, "blocks that keep their weights, counted from the input", low=0, high=BLOCKS
    )
    unfreeze_epochs: int = setting(
        0,
        "passes after which one more block moves, from the last down; 0 lets all move at once",
        low=0,
        high=10_000,
    )
    block_pace: float = setting(
        1.0, "factor of the step size from each block to the one below it", low=0.01, high=1.0
    )
    prefix: str = setting(
        "auto", "where frozen blocks are computed; auto caches them where that is less work", choices=PREFIXES
    )
    patience: int = setting(
        0,
        "passes without a better val accuracy that end the training, which then keeps the best; 0 for never",
        low=0,
        high=10_000,
    )
    dense_blocks: str = setting("dense - dropout", "dense blocks of the top in the notation")
    units: tuple[int, ...] = setting((512,), "units of each dense block of the top", low=1, high=65536)
    dropout: float = setting(0.5, "dropout rate where the block gives none", low=0.0, high=0.95)
    top_epochs: int = setting(
        20,
        "passes in which only the top is fitted, and tops are swept, on cached features",
        low=1,
        high=10_000,
    )
    space: dict[str, Axis] = field(default_factory=lambda: FINE_TUNE_SPACE, compare=False)

    def check(self) -> None:
        """Raise BadInput when the dense blocks cannot be read, or not every block gets to move."""
        super().check()
        parse_dense_blocks(self.dense_blocks, max(1, len(self.units)))
        before = self.unfreeze_epochs * max(0, BLOCKS - 1 - self.freeze_through)
        if self.epochs and before >= self.epochs:
            raise BadInput(
                f"unfreeze_epochs {self.unfreeze_epochs}: expected all blocks to move before the "
                f"{self.epochs} epochs end, received {before} epochs of fewer blocks; take more epochs"
            )


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
    stem: str = setting("none", "what stands before the first block", choices=STEMS)
    stem_epochs: int = setting(3, "passes in which the bias of a whitening stem moves", low=0, high=10_000)
    start: str = setting("glorot", "how convolutions start", choices=STARTS)
    norm_scale: bool = setting(True, "whether batch normalisation has a scale that is trained")
    norm_bias_pace: float = setting(
        1.0, "factor of the step size of batch normalisation's biases", low=0.0, high=1000.0
    )
    logit_scale: float = setting(1.0, "factor of the logits", low=1e-3, high=1e3)
    momentum: float = setting(0.9, "share of the last steps that sgd keeps", low=0.0, high=0.999)
    decay_biases: bool = setting(
        False, "whether biases and batch normalisation's weights are decayed as well"
    )
    fit_on: str = setting("train", "images that it is trained on", choices=FIT_ON)
    space: dict[str, Axis] = field(default_factory=lambda: SCRATCH_SPACE, compare=False)

    def check(self) -> None:
        """Raise BadInput when a block cannot be read or the pools leave nothing of the image."""
        super().check()
        parse_dense_blocks(self.dense_blocks, max(1, len(self.units)))
        if not self.filters:
            raise BadInput("setting filters: expected one number or more, received none")
        blocks = parse_conv_blocks(self.conv_blocks, len(self.filters))
        pools = [step.size or 2 for block in blocks for step in block if step.word.kind == "pool"]
        size = IMAGE_SIZE if self.stem == "none" else IMAGE_SIZE - PATCH + 1
        if math.prod(pools) > size:
            raise BadInput(
                f"conv blocks {self.conv_blocks!r} with {len(self.filters)} filter numbers: their pools "
                f"divide the image by {math.prod(pools)}, expected {size} at most; use fewer of them"
            )


def rows_by_name(*rows: Row) -> dict[str, Row]:
    """Return a table of rows by their names."""
    return {row.name: row for row in rows}


FAST_BLOCK = "conv - maxpool - batch norm 0.6 - gelu - conv - batch norm 0.6 - gelu"
SIX_VIEWS = (IDENTITY, "hflip", "left1+up1", "hflip+left1+up1", "right1+down1", "hflip+right1+down1")
# Convolutions in each of five blocks, by depth: Simonyan & Zisserman (2015), table 1, columns A, B, D, E.
VGG_CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def _vgg(depth: int, norm: bool) -> ScratchRecipe:
    """Return VGG of a depth for 32 px, with one dense layer, with or without batch normalisation."""
    conv = "conv - batch norm - relu" if norm else "conv"
    blocks = [" - ".join([conv] * count + ["maxpool"]) for count in VGG_CONVOLUTIONS[depth]]
    return ScratchRecipe(
        name=f"vgg{depth}-bn" if norm else f"vgg{depth}",
        title=f"VGG{depth} for 32 px" + (" with batch normalisation" if norm else ""),
        conv_blocks=" | ".join(blocks),
        filters=(64, 128, 256, 512, 512),
        dense_blocks="dense - dropout",
        epochs=30,
        learning_rate=1e-3 if norm else 3e-4,
    )


def _lesson(name: str, dense: str) -> ScratchRecipe:
    """Return the lesson's net of one of its conv blocks and one of its dense blocks."""
    block, default = LESSON_BLOCKS[name], next(iter(LESSON_DENSE_BLOCKS))
    ending = "" if dense == default else f", {LESSON_DENSE_BLOCKS[dense]}"
    return ScratchRecipe(
        name=name if dense == default else f"{name}+{dense}",
        title=f"{block}{ending}",
        conv_blocks=block,
        dense_blocks=LESSON_DENSE_BLOCKS[dense],
        epochs=15,
        learning_rate=3e-3 if "norm" in block else 1e-3,
    )


def _fine_tune(name: str, title: str, freeze_through: int, **changes: Any) -> FineTuneRecipe:
    """Return a recipe with the course that all share; what freezes blocks varies images by flips alone.

    Two views of an image are cached in little time and room, while shifts by two pixels would make fifty.
    """
    shared: dict[str, Any] = {
        "epochs": 12,
        "learning_rate": 3e-4,
        "warmup": 0.1,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "patience": 3,
        "shift": 0 if freeze_through else 2,
        "test_views": (IDENTITY, MIRRORED),
    }
    return FineTuneRecipe(name=name, title=title, freeze_through=freeze_through, **{**shared, **changes})


FINE_TUNE_RECIPES: dict[str, FineTuneRecipe] = rows_by_name(
    _fine_tune("top_only", "all blocks frozen", 5, learning_rate=1e-3),
    _fine_tune("block5", "block 5 moves", 4, batch_size=256),
    _fine_tune("blocks4_5", "blocks 4 and 5 move", 3, batch_size=256),
    _fine_tune("whole", "all blocks move", 0, block_pace=0.8, epochs=15, shift=4, test_views=SIX_VIEWS),
    _fine_tune("gradual", "one more block moves after each epoch", 0, unfreeze_epochs=1),
)

SCRATCH_RECIPES: dict[str, ScratchRecipe] = rows_by_name(
    *(_lesson(name, dense) for name in LESSON_BLOCKS for dense in LESSON_DENSE_BLOCKS),
    ScratchRecipe(
        name="lesson-long",
        title="the lessons' best blocks, trained for longer",  # the best on val in a BlockStudy of CIFAR-10
        conv_blocks=LESSON_BLOCKS["lesson-norm-twice"],
        dense_blocks=LESSON_DENSE_BLOCKS["dense-bn"],
        epochs=20,
        learning_rate=3e-3,
        lr_schedule="triangle",
        warmup=0.23,
        weight_decay=0.05,
        label_smoothing=0.1,
    ),
    ScratchRecipe(
        name="fast",
        title="the fast recipe: whitening, identity start, Nesterov SGD, averaging",
        # After airbench (Jordan 2024), whose smallest net has 64, 256 and 256 filters. Its rate of 11.5 for
        # 1,024 images and a summed loss is 1.5 for the mean; its decay of 0.00133 passes through the
        # momentum, which makes 0.0089 of it.
        conv_blocks=FAST_BLOCK,
        filters=(96, 320, 320),
        neck="maximum",
        units=(),
        stem="whitening",
        start="dirac",
        norm_scale=False,
        norm_bias_pace=64.0,
        logit_scale=1 / 9,
        epochs=10,
        batch_size=1024,
        optimizer="sgd",
        momentum=0.85,
        learning_rate=1.5,
        lr_schedule="triangle",
        warmup=0.23,
        weight_decay=0.0089,
        decay_biases=True,
        label_smoothing=0.2,
        averaging="lookahead",
        alternate=True,
        test_views=SIX_VIEWS,
    ),
    *(_vgg(depth, norm) for norm in (False, True) for depth in VGG_CONVOLUTIONS),
)
