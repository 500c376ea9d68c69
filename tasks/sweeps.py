"""Sweeps of heads: every setting of a space on val, from cached features."""

from __future__ import annotations

import functools
from typing import Any

from luigi.util import inherits

from pipeline.machine import resolve_precision
from pipeline.recipes import settings
from pipeline.recipes.heads import NetworkHead
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.sweep import checked_space, layers_of
from pipeline.storage import layout
from tasks.data import DownloadWeights, PrepareDataset
from tasks.parameters import SettingsParameter
from tasks.recipes import HeadTask, takes_recipe

SPACE = SettingsParameter(
    default={},
    example='{"alpha": [1, 10]}',
    description='values to try, such as {"learning_rate": [0.001, 0.01], "layers": ["block4_pool"]}; '
    "an empty list leaves a setting as it is [default: the recipe's own space]",
)


@inherits(PrepareDataset, DownloadWeights)
@takes_recipe(SCHEMES["head"])
class TuneHead(HeadTask):
    """Try all settings of a head's space at once, rank them on val: sweep.csv, sweep.png, choice.json.

    TrainTunedHead fits the chosen head anew on train and val; each setting of a recipe is a parameter.
    """

    space = SPACE

    @functools.cached_property
    def searched(self) -> dict[str, tuple[Any, ...]]:
        """The values to try, by setting."""
        return checked_space(self.chosen, settings.plain(self.space))

    @property
    def layers_read(self) -> tuple[str, ...]:
        """All layers that any head of the sweep reads."""
        return layers_of(self.chosen, self.searched)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The recipe, the space, and the features; of the precision only what networks are trained in."""
        network = isinstance(self.chosen, NetworkHead)
        return {
            "recipe": self.recipe,
            "settings": settings.as_dict(self.chosen),
            "space": settings.plain(self.searched),
            "precision": resolve_precision(self.precision) if network else "float32",
            "dataset": self.clone(PrepareDataset).fingerprint,
            "features": self.features_task.fingerprint,
        }

    @property
    def place(self) -> str:
        return f"{layout.folder_of('sweep')}/{self.readable_place('head')}"

    def make(self) -> None:
        fields = ("settings", "space", "precision")
        self.publish("pipeline.tuning.head_sweep:tune_head", *fields, weights=self.weights_title)
