"""What all recipes share: labels, the course of a training, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from pipeline.datasets.table import ALL_LABELS, IMAGE_SIZE, parse_budget
from pipeline.recipes.settings import setting
from pipeline.views import IDENTITY, parse_views

# The names in tables of training, which load TensorFlow.
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "triangle")
AVERAGES = ("none", "lookahead")

BLOCKS = 5  # of every backbone, counted from the input
PATCH = 2  # pixels along a side of a whitened patch
SIX_VIEWS = (IDENTITY, "hflip", "left1+up1", "hflip+left1+up1", "right1+down1", "hflip+right1+down1")

LESSON_BLOCKS = {
    "lesson": "conv - batch norm - conv - maxpool - dropout",
    "lesson-norm-first": "batch norm - conv - batch norm - conv - maxpool - dropout",
    "lesson-norm-twice": "conv - batch norm - conv - batch norm - maxpool",
    "lesson-dropout": "conv - dropout - conv - dropout - maxpool",
}
LESSON_DENSE_BLOCKS = {  # by the names of the dense heads; the first is that of a recipe without a suffix
    "dense-bn-dropout": "dense - batch norm - dropout",
    "dense-bn": "dense - batch norm",
    "dense": "dense - dropout",
}


@dataclass(frozen=True)
class Labelled:
    """What all recipes share: a name, and the training labels that are given."""

    name: str
    title: str
    label_budget: str = setting(ALL_LABELS, "labels to train with, such as 5% or 25/class; #1: other draw")

    def check(self) -> None:
        """Raise BadInput where settings cannot be read or contradict each other."""
        parse_budget(self.label_budget)

    @property
    def fits_val(self) -> bool:
        """Whether val is among what it is trained on."""
        return False


@dataclass(frozen=True)
class Training(Labelled):
    """How weights are updated; shared by all recipes of networks."""

    epochs: int = setting(20, "passes over the training images", low=0, high=10_000)
    stretch: bool = setting(False, "train for epochs / sqrt(share of the labels) epochs")
    batch_size: int = setting(128, "images in one update", low=1, high=8192)
    optimizer: str = setting("adamw", "rule of the updates", choices=OPTIMIZERS)
    learning_rate: float = setting(1e-3, "largest step size", low=0.0, high=100.0)
    lr_schedule: str = setting("cosine", "course of the learning rate over the updates", choices=SCHEDULES)
    warmup: float = setting(0.05, "share of the updates over which the step size rises", low=0.0, high=0.9)
    weight_decay: float = setting(1e-4, "decoupled decay of kernels", low=0.0, high=10.0)
    label_smoothing: float = setting(0.0, "share of a label spread over all classes", low=0.0, high=0.9)


@dataclass(frozen=True)
class Augmented(Training):
    """A training from images, which are varied anew in every epoch."""

    flip: bool = setting(True, "flip half of the images, left to right")
    shift: int = setting(2, "largest shift in pixels, edges reflected", low=0, high=IMAGE_SIZE // 2)
    alternate: bool = setting(False, "flip each image in every other epoch instead of at random")
    averaging: str = setting("none", "average of the weights over the training", choices=AVERAGES)
    test_views: tuple[str, ...] = setting((IDENTITY,), "views over which predictions are averaged")

    def check(self) -> None:
        """Raise BadInput when a view cannot be read."""
        super().check()
        parse_views(",".join(self.test_views))


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


def rows_by_name(*rows: Row) -> dict[str, Row]:
    """Return a table of rows by their names."""
    return {row.name: row for row in rows}
