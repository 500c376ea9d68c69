"""The table of recipes for networks that are trained from random weights."""

from dataclasses import dataclass, field

from pipeline.datasets.table import FIT_ON
from pipeline.errors import BadInput, Table
from pipeline.notation import parse_blocks
from pipeline.recipes import base
from pipeline.recipes.settings import setting
from pipeline.recipes.space import Axis, Range

SCRATCH_SPACE: dict[str, Axis] = {
    "learning_rate": Range(3e-4, 3e-2, log=True),
    "weight_decay": Range(1e-4, 1e-1, log=True),
    "batch_size": (64, 128, 256),
    "label_smoothing": Range(0.0, 0.2),
    "conv_blocks": tuple(base.LESSON_BLOCKS.values()),
    "filters": ((32, 64, 128), (48, 96, 192), (64, 128, 256)),
    "dropout": Range(0.0, 0.5),
    "dense_blocks": tuple(base.LESSON_DENSE_BLOCKS.values()),
    "dense_dropout": Range(0.0, 0.7),
}


@dataclass(frozen=True)
class ScratchRecipe(base.ImageRecipe):
    """A network written in the notation and trained from random weights."""

    conv_blocks: str = setting("conv - batch norm - conv - maxpool - dropout", "blocks in the notation")
    filters: tuple[int, ...] = setting((32, 64, 128), "filters of each conv block", low=1, high=8192)
    dropout: float = setting(0.2, "dropout rate of conv blocks that give none", low=0.0, high=0.95)
    neck: str = setting(
        "flatten", "how the last feature map becomes a vector", choices=("flatten", "average", "maximum")
    )
    dense_blocks: str = setting("dense - batch norm - dropout", "dense blocks in the notation")
    units: tuple[int, ...] = setting((512,), "units of each dense block", low=1, high=65536)
    dense_dropout: float = setting(0.5, "dropout rate of dense blocks that give none", low=0.0, high=0.95)
    stem: str = setting("none", "layer before the first block", choices=("none", "whitening"))
    stem_epochs: int = setting(3, "epochs in which a whitening stem's bias is trainable", low=0, high=10_000)
    initializer: str = setting("glorot", "initializer of convolutions", choices=("glorot", "dirac"))
    norm_scale: bool = setting(True, "train the scale of batch normalization")
    norm_bias_lr_multiplier: float = setting(
        1.0, "learning-rate multiplier of batch norm biases", low=0.0, high=1e3
    )
    logit_scale: float = setting(1.0, "factor of the logits", low=1e-3, high=1e3)
    momentum: float = setting(0.9, "momentum of sgd", low=0.0, high=0.999)
    decay_biases: bool = setting(False, "apply weight decay to biases and batch norm too")
    fit_on: str = setting("train", "images to train on", choices=FIT_ON)
    space: dict[str, Axis] = field(default_factory=lambda: SCRATCH_SPACE, compare=False)

    def check(self) -> None:
        """Raise BadInput if a block cannot be parsed."""
        super().check()
        parse_blocks(self.dense_blocks, len(self.units), dense=True)
        if not self.filters:
            raise BadInput("setting filters: expected at least one number, received none")
        parse_blocks(self.conv_blocks, len(self.filters), dense=False)

    def check_size(self, input_size: int) -> None:
        """Raise BadInput if a pool is larger than its feature map."""
        self.multiply_adds(input_size)

    def multiply_adds(self, input_size: int) -> int:
        """Return the multiply-adds of the conv blocks for one image. Raises BadInput like check_size."""
        sides, channels, total = [input_size if self.stem == "none" else input_size - base.PATCH + 1], 3, 0
        if self.stem != "none":
            channels = 2 * base.PATCH**2 * channels
        blocks = parse_blocks(self.conv_blocks, len(self.filters), dense=False)
        for number, (block, filters) in enumerate(zip(blocks, self.filters, strict=True), start=1):
            for layer in block:
                if layer.word.kind == "conv":
                    total += (sides[-1] * (layer.size or 3)) ** 2 * channels * filters
                    channels = filters
                if layer.word.kind != "pool":
                    continue
                if (pool := layer.size or 2) > sides[-1]:
                    raise BadInput(
                        f"conv blocks {self.conv_blocks!r} for {input_size} px: block {number} pools "
                        f"{pool}x{pool} pixels, but its map has {sides[-1]} (sides so far: "
                        f"{', '.join(map(str, sides))}); use fewer pools or a larger --input-size"
                    )
                sides.append(sides[-1] // pool)
        return total


# Convolutions per block by depth, Simonyan & Zisserman (2015), table 1, columns A, B, D, E.
VGG_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def _vgg(depth: int, norm: bool) -> ScratchRecipe:
    """Return VGG of a depth with one dense layer instead of three, with or without batch normalization."""
    conv = "conv - batch norm - relu" if norm else "conv"
    blocks = [" - ".join([conv] * count + ["maxpool"]) for count in VGG_CONVOLUTIONS[depth]]
    return ScratchRecipe(
        name=f"vgg{depth}-bn" if norm else f"vgg{depth}",
        title=f"VGG{depth}" + (" with batch normalization" if norm else ""),
        conv_blocks=" | ".join(blocks),
        filters=(64, 128, 256, 512, 512),
        dense_blocks="dense - dropout",
        epochs=30,
        learning_rate=1e-3 if norm else 3e-4,
    )


def _lesson(name: str, dense: str) -> ScratchRecipe:
    """Return the lesson's network with one of its conv blocks and one of its dense blocks."""
    block, default = base.LESSON_BLOCKS[name], next(iter(base.LESSON_DENSE_BLOCKS))
    suffix = "" if dense == default else f", {base.LESSON_DENSE_BLOCKS[dense]}"
    return ScratchRecipe(
        name=name if dense == default else f"{name}+{dense}",
        title=f"{block}{suffix}",
        conv_blocks=block,
        dense_blocks=base.LESSON_DENSE_BLOCKS[dense],
        epochs=15,
        learning_rate=3e-3 if "norm" in block else 1e-3,
    )


SCRATCH_RECIPES = Table(
    "from-scratch recipe",
    *(_lesson(name, dense) for name in base.LESSON_BLOCKS for dense in base.LESSON_DENSE_BLOCKS),
    ScratchRecipe(
        name="lesson-long",
        title="the lessons' best blocks, trained for longer",  # the best on val in a BlockStudy of CIFAR-10
        conv_blocks=base.LESSON_BLOCKS["lesson-norm-twice"],
        dense_blocks=base.LESSON_DENSE_BLOCKS["dense-bn"],
        epochs=30,
        learning_rate=3e-3,
        lr_schedule="triangle",
        warmup=0.23,
        weight_decay=0.05,
        label_smoothing=0.1,
    ),
    ScratchRecipe(
        name="fast",
        title="the fast recipe: whitening, Dirac initializer, Nesterov SGD, averaging",
        # After airbench (Jordan 2024), whose smallest network has 64, 256 and 256 filters. Its learning rate
        # of 11.5 for a loss summed over 1,024 images equals 1.5 for the mean; its weight decay of 0.00133
        # passes through the momentum, which makes it 0.0089.
        conv_blocks="conv - maxpool - batch norm 0.6 - gelu - conv - batch norm 0.6 - gelu",
        filters=(96, 320, 320),
        neck="maximum",
        units=(),
        stem="whitening",
        initializer="dirac",
        norm_scale=False,
        norm_bias_lr_multiplier=64.0,
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
        test_views=base.SIX_VIEWS,
    ),
    *(_vgg(depth, norm) for norm in (False, True) for depth in VGG_CONVOLUTIONS),
)
