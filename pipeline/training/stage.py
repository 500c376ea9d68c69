"""One stage of training and its settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.recipes.base import ImageRecipe, TrainingRecipe


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

    @classmethod
    def of(cls, recipe: TrainingRecipe, name: str, *, epochs: int, **changes: Any) -> Stage:
        """Return a stage with a recipe's training settings, including augmentation; changes override them.

        Pass settings that only some recipes have (patience, momentum, decay_biases) as changes.
        """
        if isinstance(recipe, ImageRecipe):
            changes = {
                "flip": recipe.flip,
                "alternate": recipe.alternate,
                "shift": recipe.shift,
                "mixup": recipe.mixup,
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
