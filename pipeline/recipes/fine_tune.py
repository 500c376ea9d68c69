"""The table of fine-tuning recipes, the new top of each, and whether frozen blocks are computed once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.backbones.table import Backbone
from pipeline.errors import BadInput, Table
from pipeline.formatting import pluralize
from pipeline.notation import parse_blocks
from pipeline.recipes.base import LESSON_DENSE_BLOCKS, N_BLOCKS, SIX_VIEWS, ImageRecipe
from pipeline.recipes.heads import HEADS, NetworkHead
from pipeline.recipes.settings import override, setting
from pipeline.recipes.space import Axis, Range
from pipeline.views import HFLIP, IDENTITY, augmentation_views

# Half of VGG16's last features are 0 for nearly all images of 32 px. Divided by their own deviations, they
# would grow a thousandfold as soon as the blocks below are trained, and training would diverge.
VARIANCE_FLOOR = 1.0
MAP_VALUE_BYTES = 2  # of a cached feature map

FINE_TUNE_SPACE: dict[str, Axis] = {
    "freeze_through": (0, 2, 3, 4),
    "learning_rate": Range(1e-5, 1e-3, log=True),
    "weight_decay": Range(1e-5, 1e-1, log=True),
    "label_smoothing": Range(0.0, 0.2),
    "dropout": Range(0.0, 0.7),
    "dense_blocks": tuple(LESSON_DENSE_BLOCKS.values()),
    "units": ((256,), (512,), (1024,)),
}


@dataclass(frozen=True)
class FineTuneRecipe(ImageRecipe):
    """A pretrained backbone with a new top: the top is fitted first, then trained with the unfrozen blocks.

    The top is the best head of a sweep on cached features. Blocks that stay frozen throughout training can be
    computed once and cached (see plan_prefix).
    """

    freeze_through: int = setting(0, "number of frozen blocks, counted from the input", low=0, high=N_BLOCKS)
    unfreeze_epochs: int = setting(
        0, "epochs before unfreezing the next block, last first; 0: all at once", low=0, high=10_000
    )
    block_lr_multiplier: float = setting(
        1.0, "learning-rate multiplier from each block to the one below", low=0.01, high=1.0
    )
    prefix: str = setting(
        "auto",
        "where frozen blocks are computed; auto uses the cache if that is cheaper",
        choices=("auto", "cache", "images"),
    )
    patience: int = setting(
        0, "epochs without a better val accuracy before stopping; 0: off", low=0, high=10_000
    )
    dense_blocks: str = setting("dense - dropout", "dense blocks of the top in the notation")
    units: tuple[int, ...] = setting((512,), "units of each dense block of the top", low=1, high=65536)
    dropout: float = setting(0.5, "dropout rate if the block gives none", low=0.0, high=0.95)
    top_epochs: int = setting(20, "epochs of fitting the top on cached features", low=1, high=10_000)
    space: dict[str, Axis] = field(default_factory=lambda: FINE_TUNE_SPACE, compare=False)

    def check(self) -> None:
        """Raise BadInput if the dense blocks cannot be parsed, or not all blocks get unfrozen."""
        super().check()
        parse_blocks(self.dense_blocks, len(self.units), dense=True)
        before = self.unfreeze_epochs * max(0, N_BLOCKS - 1 - self.freeze_through)
        if self.epochs and before >= self.epochs:
            raise BadInput(
                f"unfreeze_epochs {self.unfreeze_epochs}: the last block is unfrozen after {before} epochs, "
                f"expected fewer than the {self.epochs} epochs of the training; increase --epochs"
            )


def _fine_tune(name: str, title: str, freeze_through: int, **changes: Any) -> FineTuneRecipe:
    """Return a recipe with the shared settings; recipes with frozen blocks do not shift images.

    Two views of an image are cheap to cache, while shifts by two pixels would need fifty.
    """
    shared: dict[str, Any] = {
        "epochs": 8,
        "learning_rate": 3e-4,
        "warmup": 0.1,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "patience": 3,
        "shift": 0 if freeze_through else 2,
        "mixup": 0.2,
        "test_views": (IDENTITY, HFLIP),
    }
    return FineTuneRecipe(name=name, title=title, freeze_through=freeze_through, **{**shared, **changes})


FINE_TUNE_RECIPES = Table(
    "fine-tune recipe",
    _fine_tune("top_only", "all blocks frozen", 5, learning_rate=1e-3, mixup=0.0),
    _fine_tune("block5", "block 5 trainable", 4),
    _fine_tune("blocks4_5", "blocks 4 and 5 trainable", 3),
    _fine_tune("whole", "all blocks trainable", 0, epochs=20, learning_rate=4e-4, test_views=SIX_VIEWS),
    _fine_tune("gradual", "one more block unfrozen after each epoch", 0, unfreeze_epochs=1, mixup=0.0),
)


def top_row(recipe: FineTuneRecipe) -> NetworkHead:
    """Return the row of HEADS whose space is swept for the recipe's top."""
    return cast(NetworkHead, HEADS["dense" if recipe.units else "linear"])


def top_settings(recipe: FineTuneRecipe, layer: str) -> dict[str, Any]:
    """Return the settings of a recipe's top on a layer that differ from its row of HEADS."""
    return {
        "layers": (layer,),
        "dense_blocks": recipe.dense_blocks,
        "units": recipe.units,
        "epochs": recipe.top_epochs,
        # A top fitted to hard labels is overconfident: the first gradients would disturb the blocks below.
        "label_smoothing": recipe.label_smoothing,
        "label_budget": recipe.label_budget,
        "class_weights": recipe.class_weights,
        "variance_floor": VARIANCE_FLOOR,
    }


def top_head(recipe: FineTuneRecipe, layer: str, chosen: dict[str, Any] | None = None) -> NetworkHead:
    """Return a recipe's top as a head, with the settings that a sweep chose, if any."""
    return override(top_row(recipe), {**top_settings(recipe, layer), **(chosen or {})})


@dataclass(frozen=True)
class Prefix:
    """The decision for the frozen blocks of one recipe: whether their maps are cached, and why.

    If they are cached, layer is the tap at the cut and views are the views that training draws from.
    """

    cached: bool
    why: str
    layer: str = ""
    pooling: str = "none"
    views: Sequence[str] = ()


def plan_prefix(recipe: FineTuneRecipe, row: Backbone, input_size: int) -> Prefix:
    """Return where a recipe's frozen blocks are computed; recipe.prefix can force either way.

    Frozen blocks always give the same feature maps for the same view of an image. If training draws from few
    views, the maps at the cut are cached for each, and a step computes only the trainable blocks. "auto" uses
    the cache if that is cheaper: a view costs as much as an epoch from images. Raises BadInput if prefix is
    "cache" and no block stays frozen, or if the backbone has no such block.
    """
    cut = recipe.freeze_through
    if cut > len(row.taps):
        raise BadInput(
            f"freeze-through {cut}: expected at most {len(row.taps)}, the blocks of {row.title}, which end "
            f"in {', '.join(row.taps)}"
        )
    if row.bypassed and (cut or recipe.unfreeze_epochs):
        raise BadInput(
            f"freeze-through {cut}: connections of {row.title} bypass {row.bypassed}, so it is no chain of "
            "blocks; train all of it with --recipe whole"
        )
    if cut == 0 or recipe.unfreeze_epochs:
        if recipe.prefix == "cache":
            raise BadInput(
                "prefix cache: expected blocks that stay frozen throughout training (--freeze-through 1 to 5 "
                f"and --unfreeze-epochs 0), received {cut} and {recipe.unfreeze_epochs}"
            )
        return Prefix(False, "from images, because no block stays frozen throughout training")
    if recipe.prefix == "images":
        return Prefix(False, "from images, because --prefix is images")
    layer, views = row.taps[cut - 1], augmentation_views(flip=recipe.flip, shift=recipe.shift)
    amount = f"{pluralize(len(views), 'view')} per image"
    if recipe.prefix == "auto" and len(views) > recipe.epochs:
        why = f"from images, because {amount} cost more than {recipe.epochs} epochs; --shift 0 needs fewer"
        return Prefix(False, why)
    size = MAP_VALUE_BYTES * math.prod(row.map_shape(layer, input_size)) * len(views)
    why = f"from cached maps of {layer}: {amount}, {size / 1024:.0f} KB, computed once"
    return Prefix(True, why, layer, "average" if cut == len(row.taps) else "none", views)
