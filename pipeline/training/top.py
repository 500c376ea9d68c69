"""The fresh top of a fine-tuned network: the head that is fitted on cached features before anything moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipeline.heads.recipes import HEADS, NetworkHead
from pipeline.training.settings import override

if TYPE_CHECKING:
    from pipeline.training.recipes import FineTuneRecipe


# Half of VGG16's last features are 0 for nearly all images of 32 px. Divided by deviations of their own they
# would grow a thousandfold as soon as the blocks below move, and throw the training off its course.
VARIANCE_FLOOR = 1.0


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
        "labels": recipe.labels,
        "variance_floor": VARIANCE_FLOOR,
    }


def top_head(recipe: FineTuneRecipe, layer: str, chosen: dict[str, Any] | None = None) -> NetworkHead:
    """Return the head that a recipe's top is, with settings that a sweep chose if it did."""
    return override(top_row(recipe), {**top_settings(recipe, layer), **(chosen or {})})
