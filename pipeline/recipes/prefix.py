"""Decide whether fine-tuning computes frozen blocks once, from the cache, or in every step.

Frozen blocks always give the same feature maps for the same view of an image. If training draws from few
views, the maps at the cut are cached for each view, and a step computes only the trainable blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.backbones.table import Backbone
from pipeline.errors import BadInput
from pipeline.recipes.fine_tune import FineTuneRecipe
from pipeline.views import augmentation_views

VALUE_BYTES = 2


@dataclass(frozen=True)
class Prefix:
    """The decision for one recipe: whether maps are cached, and why.

    If they are, layer is the tap at the cut and views are the views that training draws from.
    """

    cached: bool
    why: str
    layer: str = ""
    pooling: str = "none"
    views: Sequence[str] = ()


def plan_prefix(recipe: FineTuneRecipe, row: Backbone, input_size: int) -> Prefix:
    """Return where a recipe's frozen blocks are computed; recipe.prefix can force either way.

    "auto" uses the cache if that is cheaper: a view costs as much as an epoch from images. Raises BadInput if
    prefix is "cache" and no block stays frozen, or if the backbone has no such block.
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
    views = augmentation_views(flip=recipe.flip, shift=recipe.shift)
    size = VALUE_BYTES * math.prod(row.map_shape(row.taps[cut - 1], input_size)) * len(views)
    amount = f"{len(views)} view{'s' if len(views) > 1 else ''} per image"
    if recipe.prefix == "auto" and len(views) > recipe.epochs:
        why = f"from images, because {amount} cost more than {recipe.epochs} epochs; --shift 0 needs fewer"
        return Prefix(False, why)
    layer, last = row.taps[cut - 1], cut == len(row.taps)
    why = f"from cached maps of {layer}: {amount}, {size / 1024:.0f} KB, computed once"
    return Prefix(True, why, layer, "average" if last else "none", views)
