"""The schemes: ways to get a classifier, one row each. A row says what it needs and who trains it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadInput, unknown_name
from pipeline.recipes.base import rows_by_name
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.heads import HEADS
from pipeline.recipes.settings import fields_of, override


@dataclass(frozen=True)
class Scheme:
    """A way to train: its recipes, the tiers that it reads, its training function `module:function`.

    The function is called with a `job.Job` and returns a `job.Trained`. needs are among
    "weights", "features", "sweep" and "top" (features, a sweep for a fresh top, and maps at the cut); the
    prepared data set is always there.
    """

    name: str
    task: str  # the name of its Luigi task
    recipes: dict[str, Any]
    train: str
    needs: tuple[str, ...] = ()
    precision: str | None = None  # what it trains in, where that is not the run's choice

    @property
    def settings(self) -> dict[str, dataclasses.Field[Any]]:
        """The settings of all its recipes by name; one recipe may have fewer."""
        return {name: field for recipe in self.recipes.values() for name, field in fields_of(recipe).items()}

    @property
    def reads_layers(self) -> bool:
        """Whether its recipes name the cached layers that they read."""
        return "layers" in self.settings

    def recipe(self, name: str, overrides: dict[str, Any] | None = None) -> Any:
        """Return a recipe by name with settings replaced and checked; raise BadInput."""
        if name not in self.recipes:
            raise unknown_name(f"{self.name} recipe", name, self.recipes)
        recipe = override(self.recipes[name], overrides or {})
        recipe.check()
        return recipe


SCHEMES: dict[str, Scheme] = rows_by_name(
    Scheme(
        name="head",
        task="TrainHead",
        recipes=HEADS,
        train="pipeline.schemes.head:train_head",
        needs=("weights", "features"),
        precision="float32",  # a matter of seconds either way; the precision of a run is its features'
    ),
    Scheme(
        name="tuned-head",
        task="TrainTunedHead",
        recipes=HEADS,
        train="pipeline.schemes.head:train_tuned_head",
        needs=("weights", "features", "sweep"),
        precision="float32",
    ),
    Scheme(
        name="fine-tune",
        task="FineTune",
        recipes=FINE_TUNE_RECIPES,
        train="pipeline.schemes.fine_tune:fine_tune",
        needs=("weights", "features", "top"),
    ),
    Scheme(
        name="from-scratch",
        task="TrainFromScratch",
        recipes=SCRATCH_RECIPES,
        train="pipeline.schemes.from_scratch:train_from_scratch",
    ),
)


def find_scheme(text: str) -> tuple[Scheme, str]:
    """Return the scheme and recipe name of `scheme:recipe`, such as head:linear; raise BadInput."""
    name, _, recipe = text.partition(":")
    if name not in SCHEMES or recipe not in SCHEMES[name].recipes:
        known = [f"{scheme.name}:{row}" for scheme in SCHEMES.values() for row in scheme.recipes]
        raise BadInput(f"unknown scheme {text!r}: expected one of {', '.join(known)}")
    return SCHEMES[name], recipe
