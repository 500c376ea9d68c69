"""Base classes of recipes: label budget, training settings, augmentation."""

from dataclasses import dataclass

from pipeline.datasets.table import ALL_LABELS, FINAL, SMALLEST_IMAGE, parse_budget
from pipeline.recipes.settings import setting
from pipeline.views import IDENTITY, parse_views

# Names of rows in pipeline.training, repeated here because those modules load TensorFlow.
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "triangle")
AVERAGES = ("none", "lookahead")
BALANCED = "balanced"

N_BLOCKS = 5  # in every backbone, numbered from the input
PATCH = 2  # side of a whitened patch in pixels
SIX_VIEWS = (IDENTITY, "hflip", "left1+up1", "hflip+left1+up1", "right1+down1", "hflip+right1+down1")

LESSON_BLOCKS = {
    "lesson": "conv - batch norm - conv - maxpool - dropout",
    "lesson-norm-first": "batch norm - conv - batch norm - conv - maxpool - dropout",
    "lesson-norm-twice": "conv - batch norm - conv - batch norm - maxpool",
    "lesson-dropout": "conv - dropout - conv - dropout - maxpool",
}
LESSON_DENSE_BLOCKS = {  # by name of the dense head; a recipe without a suffix uses the first
    "dense-bn-dropout": "dense - batch norm - dropout",
    "dense-bn": "dense - batch norm",
    "dense": "dense - dropout",
}


@dataclass(frozen=True)
class BaseRecipe:
    """The base class of recipes: name, title, label budget and weights of classes."""

    name: str
    title: str
    label_budget: str = setting(ALL_LABELS, "label budget, such as 5% or 25/class; #1 for another draw")
    class_weights: str = setting(
        "none",
        "weights of classes in the loss; balanced: n / (k * n_class)",
        choices=("none", BALANCED),
    )

    def check(self) -> None:
        """Raise BadInput if a setting cannot be parsed or settings contradict each other."""
        parse_budget(self.label_budget)

    def check_size(self, input_size: int) -> None:
        """Raise BadInput if the network cannot be computed for images of input_size pixels per side."""

    @property
    def fits_val(self) -> bool:
        """Whether the training images include val; only recipes with the setting fit_on can."""
        return getattr(self, "fit_on", "train") == FINAL


@dataclass(frozen=True)
class TrainingRecipe(BaseRecipe):
    """Training settings that all recipes of networks share."""

    epochs: int = setting(20, "passes over the training images", low=0, high=10_000)
    stretch: bool = setting(False, "train for epochs / sqrt(fraction of the labels) epochs")
    batch_size: int = setting(128, "images per step", low=1, high=8192)
    optimizer: str = setting("adamw", "optimizer", choices=OPTIMIZERS)
    learning_rate: float = setting(1e-3, "peak learning rate", low=1e-9, high=100.0)
    lr_schedule: str = setting("cosine", "learning-rate schedule", choices=SCHEDULES)
    warmup: float = setting(0.05, "fraction of steps over which the learning rate rises", low=0.0, high=0.9)
    weight_decay: float = setting(1e-4, "decoupled weight decay of kernels", low=0.0, high=10.0)
    label_smoothing: float = setting(0.0, "fraction of each label spread over all classes", low=0.0, high=0.9)


@dataclass(frozen=True)
class ImageRecipe(TrainingRecipe):
    """Settings of a training on images, which are augmented in every epoch."""

    flip: bool = setting(True, "flip images left to right with probability 0.5")
    shift: int = setting(2, "maximum shift in pixels, with reflected edges", low=0, high=SMALLEST_IMAGE // 2)
    alternate: bool = setting(False, "flip each image in every other epoch instead of at random")
    mixup: float = setting(
        0.0,
        "mix pairs of images, or of their cached maps, by a share from Beta(mixup, mixup); 0: off",
        low=0.0,
        high=10.0,
    )
    averaging: str = setting("none", "averaging of the weights during training", choices=AVERAGES)
    test_views: tuple[str, ...] = setting((IDENTITY,), "views over which to average predictions")

    def check(self) -> None:
        """Raise BadInput if a view cannot be parsed."""
        super().check()
        parse_views(",".join(self.test_views))
