"""The table of schemes: ways to get a classifier, each with its inputs and its training function."""

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadInput, Table
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.heads import HEADS
from pipeline.recipes.settings import fields_of, override


@dataclass(frozen=True)
class Scheme:
    """A way to get a classifier: its recipes, inputs and training function (`module:function`).

    The function takes a `job.Job` and returns a `job.TrainingResult`. needs lists its inputs besides the
    prepared data set: "weights", "features", "sweep", "top" (features, a sweep for the top, maps at the cut).
    """

    name: str
    task: str  # the name of its Luigi task
    recipes: dict[str, Any]
    train: str
    needs: tuple[str, ...] = ()
    precision: str | None = None  # precision of training, or None for the run's

    @property
    def settings(self) -> dict[str, dataclasses.Field[Any]]:
        """The settings of all its recipes by name; a single recipe can have fewer."""
        return {name: field for recipe in self.recipes.values() for name, field in fields_of(recipe).items()}

    @property
    def reads_layers(self) -> bool:
        """Whether its recipes have a setting for the cached layers to read."""
        return "layers" in self.settings

    def recipe(self, name: str, overrides: dict[str, Any] | None = None) -> Any:
        """Return a recipe by name with settings overridden and checked; raise BadInput."""
        recipe = override(self.recipes[name], overrides or {})
        recipe.check()
        return recipe


SCHEMES = Table(
    "scheme",
    Scheme(
        name="head",
        task="TrainHead",
        recipes=HEADS,
        train="pipeline.schemes.head:train_head",
        needs=("weights", "features"),
        precision="float32",  # heads train in seconds; the run's precision is that of its features
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
    """Parse `scheme:recipe`, such as head:linear, into a scheme and a recipe name; raise BadInput."""
    name, _, recipe = text.partition(":")
    if name not in SCHEMES or recipe not in SCHEMES[name].recipes:
        names = [f"{scheme.name}:{row}" for scheme in SCHEMES.values() for row in scheme.recipes]
        close = ", ".join(difflib.get_close_matches(text, names) or names[:2])
        raise BadInput(f"unknown scheme {text!r}: expected such as {close}; `headstart recipes` lists all")
    return SCHEMES[name], recipe
