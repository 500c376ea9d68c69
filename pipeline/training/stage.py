"""One stretch of training, with the settings that hold in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.recipes.base import Augmented, Training


@dataclass(frozen=True)
class Stage:
    """One stretch of training: a name for the history, and the settings that hold in it."""

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
    momentum: float = 0.9
    decay_biases: bool = False
    averaging: str = "none"
    patience: int = 0
    salt: int = 0  # makes the random order of one stage differ from another's

    @classmethod
    def of(cls, recipe: Training, name: str, *, epochs: int, **changes: Any) -> Stage:
        """Return a stage with the course of a recipe, and its augmentation if it has one; changes come last.

        What only some recipes have (patience, momentum, decay_biases) is among the changes.
        """
        if isinstance(recipe, Augmented):
            changes = {
                "flip": recipe.flip,
                "alternate": recipe.alternate,
                "shift": recipe.shift,
                "averaging": recipe.averaging,
                **changes,
            }
        stage = cls(
            name=name,
            epochs=epochs,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            optimizer=recipe.optimizer,
            lr_schedule=recipe.lr_schedule,
            warmup=recipe.warmup,
            weight_decay=recipe.weight_decay,
            label_smoothing=recipe.label_smoothing,
        )
        return replace(stage, **changes)
