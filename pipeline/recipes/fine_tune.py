"""The recipes of fine-tuning, one row each, and the fresh top that each begins with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.errors import BadInput
from pipeline.notation import parse_dense_blocks
from pipeline.recipes.base import BLOCKS, LESSON_DENSE_BLOCKS, SIX_VIEWS, Augmented, rows_by_name
from pipeline.recipes.heads import HEADS, NetworkHead
from pipeline.recipes.settings import override, setting
from pipeline.recipes.space import Axis, Choice, Range
from pipeline.views import IDENTITY, MIRRORED

# Half of VGG16's last features are 0 for nearly all images of 32 px. Divided by deviations of their own they
# would grow a thousandfold as soon as the blocks below move, and throw the training off its course.
VARIANCE_FLOOR = 1.0

FINE_TUNE_SPACE: dict[str, Axis] = {
    "freeze_through": Choice((0, 2, 3, 4)),
    "learning_rate": Range(1e-5, 1e-3, log=True),
    "weight_decay": Range(1e-5, 1e-1, log=True),
    "label_smoothing": Range(0.0, 0.2),
    "dropout": Range(0.0, 0.7),
    "dense_blocks": Choice(tuple(LESSON_DENSE_BLOCKS.values())),
    "units": Choice(((256,), (512,), (1024,))),
}


@dataclass(frozen=True)
class FineTuneRecipe(Augmented):
    """A pretrained backbone with a fresh top: the top is fitted first, then all that is not frozen.

    The top is the best of a sweep on cached features. What is frozen all the time can be computed once and
    cached, instead of in every epoch (see recipes.prefix).
    """

    freeze_through: int = setting(0, "number of frozen blocks, from the input on", low=0, high=BLOCKS)
    unfreeze_epochs: int = setting(
        0, "epochs per unfrozen block, last first; 0: all at once", low=0, high=10_000
    )
    block_lr_multiplier: float = setting(
        1.0, "learning-rate multiplier from each block to the one below", low=0.01, high=1.0
    )
    prefix: str = setting(
        "auto",
        "where frozen blocks are computed; auto caches them where that is less work",
        choices=("auto", "cache", "images"),
    )
    patience: int = setting(
        0, "epochs without a better val accuracy before stopping; 0: off", low=0, high=10_000
    )
    dense_blocks: str = setting("dense - dropout", "dense blocks of the top in the notation")
    units: tuple[int, ...] = setting((512,), "units of each dense block of the top", low=1, high=65536)
    dropout: float = setting(0.5, "dropout rate where the block gives none", low=0.0, high=0.95)
    top_epochs: int = setting(
        20, "epochs in which the top alone is fitted, on cached features", low=1, high=10_000
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
    _fine_tune(
        "whole", "all blocks move", 0, block_lr_multiplier=0.8, epochs=15, shift=4, test_views=SIX_VIEWS
    ),
    _fine_tune("gradual", "one more block moves after each epoch", 0, unfreeze_epochs=1),
)


def top_row(recipe: FineTuneRecipe) -> NetworkHead:
    """Return the row of HEADS whose space is swept for a top of this recipe."""
    return cast(NetworkHead, HEADS["dense" if recipe.units else "linear"])


def top_settings(recipe: FineTuneRecipe, layer: str) -> dict[str, Any]:
    """Return the settings in which a recipe's top, on a layer, differs from its row of HEADS."""
    return {
        "layers": (layer,),
        "dense_blocks": recipe.dense_blocks,
        "units": recipe.units,
        "epochs": recipe.top_epochs,
        "label_budget": recipe.label_budget,
        "variance_floor": VARIANCE_FLOOR,
    }


def top_head(recipe: FineTuneRecipe, layer: str, chosen: dict[str, Any] | None = None) -> NetworkHead:
    """Return the head that a recipe's top is, with settings that a sweep chose if it did."""
    return override(top_row(recipe), {**top_settings(recipe, layer), **(chosen or {})})
