"""One stage of training and its settings."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from pipeline.recipes.base import TrainingRecipe


@dataclass(frozen=True)
class Stage:
    """One stage of training: its name in the history, and its settings."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    lr_schedule: str
    warmup: float
    weight_decay: float
    label_smoothing: float
    flip: bool = False
    alternate: bool = False
    shift: int = 0
    mixup: float = 0.0
    momentum: float = 0.9
    decay_biases: bool = False
    averaging: str = "none"
    patience: int = 0
    salt: int = 0  # gives each stage its own random numbers
    epochs_per_row: int = 1  # of the history; val is evaluated once for a row

    @classmethod
    def of(cls, recipe: TrainingRecipe, name: str, *, epochs: int, **changes: Any) -> Self:
        """Return a stage with the settings that a recipe has under the same names; changes override them."""
        names = {field.name for field in dataclasses.fields(cls)} & vars(recipe).keys()
        settings = {setting: getattr(recipe, setting) for setting in names}
        settings |= {**changes, "name": name, "epochs": epochs}
        # Of stretched epochs of a few images, each would take less time than evaluating val after it.
        per_row = 1 if settings.get("patience") else -(-epochs // max(1, recipe.epochs))
        return cls(**settings, epochs_per_row=max(1, per_row))
