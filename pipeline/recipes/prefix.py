"""Where the frozen blocks of a fine-tuned network are computed: once, in the cache, or in every step.

What a frozen block answers to a view of an image never changes. Where a training draws from few views, the
feature maps at the cut are cached for each of them, and a step computes only what moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.backbones.table import Backbone
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import BadInput
from pipeline.recipes.fine_tune import FineTuneRecipe
from pipeline.views import variation_views

LARGEST_BYTES = 64 << 10  # of an image's maps under all views: they lie in memory while a network trains
VALUE_BYTES = 2


@dataclass(frozen=True)
class Prefix:
    """What is decided for one recipe: whether maps are cached, which, and why in words.

    layer is the tap at the cut and views are those that a step draws from, where maps are cached.
    """

    cached: bool
    why: str
    layer: str = ""
    pooling: str = "none"
    views: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Prefix:
        """Return what dataclasses.asdict wrote, after JSON made lists of tuples."""
        return cls(**{**values, "views": tuple(values["views"])})


def plan_prefix(recipe: FineTuneRecipe, row: Backbone) -> Prefix:
    """Return where a recipe's frozen blocks are computed; recipe.prefix can demand either way.

    Left to itself it is the cache where that is less work (a view costs as much as an epoch from images)
    and the maps of an image under all views take 64 KB at most. Raises BadInput where the cache is
    demanded and nothing is frozen all the time.
    """
    cut = recipe.freeze_through
    if cut == 0 or recipe.unfreeze_epochs:
        if recipe.prefix == "cache":
            raise BadInput(
                "prefix cache: expected blocks that are frozen all the time (--freeze-through 1 … 5 and "
                f"--unfreeze-epochs 0), received {cut} and {recipe.unfreeze_epochs}"
            )
        return Prefix(False, "from images, because no block is frozen all the time")
    if recipe.prefix == "images":
        return Prefix(False, "from images, as prefix images asks")
    views = variation_views(flip=recipe.flip, shift=recipe.shift)
    each = VALUE_BYTES * math.prod(row.map_shape(cut, IMAGE_SIZE)) * len(views)
    counted = f"{len(views)} view{'s' if len(views) > 1 else ''} of an image"
    if recipe.prefix == "auto" and len(views) > recipe.epochs:
        why = f"from images, because {counted} are more than {recipe.epochs} epochs; shift 0 leaves few"
        return Prefix(False, why)
    if recipe.prefix == "auto" and each > LARGEST_BYTES:
        why = f"from images, because the maps of {counted} take {each >> 10} KB, above {LARGEST_BYTES >> 10}"
        return Prefix(False, why)
    layer, last = row.taps[cut - 1], cut == len(row.taps)
    why = f"from cached maps of {layer}: {counted}, {each / 1024:.0f} KB, instead of every epoch anew"
    return Prefix(True, why, layer, "average" if last else "none", views)
