"""One stage of training and its settings."""

from dataclasses import dataclass
from typing import Any, Self

from pipeline.recipes.base import ImageRecipe, TrainingRecipe

# Settings of recipes: of every training, and of those on images.
TRAINING = (
    *("batch_size", "learning_rate", "optimizer", "lr_schedule", "warmup"),
    *("weight_decay", "label_smoothing"),
)
AUGMENTATION = ("flip", "alternate", "shift", "mixup", "averaging")


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
    def of(cls, recipe: TrainingRecipe, name: str, *, epochs: int, **changes: Any) -> Self:
        """Return a stage with a recipe's training settings, including augmentation; changes override them.

        Pass settings that only some recipes have (patience, momentum, decay_biases) as changes.
        """
        names = (*TRAINING, *AUGMENTATION) if isinstance(recipe, ImageRecipe) else TRAINING
        settings = {setting: getattr(recipe, setting) for setting in names}
        return cls(name=name, epochs=epochs, **{**settings, **changes})
