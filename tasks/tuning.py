"""Sweeps of heads: every setting of a space on val, from cached features."""

from __future__ import annotations

import functools

from luigi.util import inherits

from pipeline.heads.recipes import NetworkHead
from pipeline.heads.sweep import checked_space, layers_of
from pipeline.heads.tune import tune_head
from pipeline.machine import resolve_precision
from pipeline.training import settings
from pipeline.training.schemes import SCHEMES
from tasks.data import DownloadWeights, PrepareDataset
from tasks.parameters import SettingsParameter
from tasks.recipes import HeadTask, recipe_parameters

SPACE = SettingsParameter(
    default={},
    example='{"alpha": [1, 10]}',
    description='values to try, such as {"learning_rate": [0.001, 0.01], "layers": ["block4_pool"]}; '
    "an empty list leaves a setting as it is [default: the recipe's own space]",
)


class _TuneHead(HeadTask):
    @functools.cached_property
    def searched(self) -> dict[str, tuple]:
        """The values to try, by setting."""
        return checked_space(self.chosen, settings.plain(self.space))

    @property
    def layers_read(self) -> tuple[str, ...]:
        """All layers that any head of the sweep reads."""
        return layers_of(self.chosen, self.searched)

    @functools.cached_property
    def fingerprint(self) -> dict:
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
        return f"sweeps/{self.readable_place('head')}"

    def make(self) -> None:
        self.publish(tune_head, "settings", "space", "precision", weights=self.weights_title)


def _tune_head() -> type[_TuneHead]:
    doc = (
        "Try all settings of a head's space at once, rank them on val: sweep.csv, sweep.png, choice.json.\n\n"
        "TrainTunedHead fits the chosen head anew on train and val; each setting of a recipe is a parameter."
    )
    members = {"__doc__": doc, "__module__": __name__, "space": SPACE, **recipe_parameters(SCHEMES["head"])}
    return inherits(PrepareDataset, DownloadWeights)(type("TuneHead", (_TuneHead,), members))


TuneHead = _tune_head()
