"""Run specifications and their input folders, which a task passes to the training process."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pipeline.backbones.table import BACKBONES
from pipeline.recipes.fine_tune import Prefix
from pipeline.recipes.heads import resolve_layers
from pipeline.recipes.schemes import SCHEMES, Scheme


@dataclass(frozen=True)
class RunSpec:
    """What defines a training: a scheme, a recipe with all its settings as JSON values, a seed, a precision.

    input_size is pixels per side that the network sees.
    recipe is the recipe's name; row is its row in the scheme's table, or the row that a search started from.
    weights and backbone are names for tables, "none" for a scheme that reads neither. prefix describes the
    frozen blocks of a fine-tuned network. fingerprint is everything that the result depends on.
    """

    scheme: str
    recipe: str
    row: str
    settings: dict[str, Any]
    seed: int
    precision: str
    input_size: int
    weights: str
    backbone: str
    fingerprint: dict[str, Any]
    prefix: Prefix | None = None

    @property
    def name(self) -> str:
        """The scheme and the recipe, such as head:linear."""
        return f"{self.scheme}:{self.recipe}"

    @property
    def scheme_row(self) -> Scheme:
        """The scheme's row in SCHEMES."""
        return SCHEMES[self.scheme]

    def load_recipe(self) -> Any:
        """Return the recipe with the settings of this training; raise BadInput if they are invalid."""
        recipe = self.scheme_row.recipe(self.row, self.settings)
        recipe.check_size(self.input_size)
        return resolve_layers(recipe, BACKBONES[self.backbone]) if self.scheme_row.needs else recipe

    def with_settings(self, settings: dict[str, Any], seed: int | None = None) -> Self:
        """Return this training with some settings replaced, and optionally another seed."""
        seed = self.seed if seed is None else seed
        return replace(self, settings={**self.settings, **settings}, seed=seed)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values that from_json reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the specification that as_json wrote; raises TypeError for unknown fields."""
        prefix = values["prefix"]
        return cls(**{**values, "prefix": Prefix(**prefix) if prefix else None})
