"""The table of heads: each has a kind, settings, and the values that a sweep tries.

A kind is a dataclass of settings and a module with two functions:

    fit(recipe, data, *, seed, history, progress) -> keras.Model
        maps features (B, D) to logits (B, C); the last layer is named "logits"
    predict_logits(recipe, points, data, *, precision, progress) -> list of (V, n, C) float32
        fits a head with the settings of each point and returns its logits on val, for each view

A softmax turns logits into probabilities. For kinds whose loss does not calibrate them, logits are first
divided by a temperature.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pipeline.backbones.table import Backbone
from pipeline.datasets.table import FIT_ON
from pipeline.errors import BadInput, Table
from pipeline.notation import parse_blocks
from pipeline.recipes.base import BaseRecipe, TrainingRecipe
from pipeline.recipes.settings import setting
from pipeline.views import IDENTITY, parse_views

ALL_LAYERS = ("all",)  # all taps of the backbone


@dataclass(frozen=True)
class Head(BaseRecipe):
    """The base class of all kinds; space lists the values that a sweep tries, by setting."""

    layers: tuple[str, ...] = setting(ALL_LAYERS, "cached layers to concatenate, or all")
    views: tuple[str, ...] = setting((IDENTITY,), "cached views to train on and to average predictions over")
    fit_on: str = setting("train", "images to fit on", choices=FIT_ON)
    space: dict[str, tuple[Any, ...]] = field(default_factory=dict, compare=False)

    module: ClassVar[str]

    def check(self) -> None:
        """Raise BadInput if views cannot be parsed."""
        super().check()
        parse_views(",".join(self.views))


@dataclass(frozen=True)
class NetworkHead(Head, TrainingRecipe):
    """Dense blocks and a softmax, trained by gradient descent; each epoch draws one view of each image."""

    dense_blocks: str = setting("dense - dropout", "dense blocks in the notation")
    units: tuple[int, ...] = setting((), "units of each dense block; none: a linear head", low=1, high=65536)
    dropout: float = setting(0.5, "dropout rate if the block gives none", low=0.0, high=0.95)
    variance_floor: float = setting(0.0, "variance floor, relative to the mean variance", low=0.0, high=1.0)

    module: ClassVar[str] = "pipeline.heads.network"

    def check(self) -> None:
        """Raise BadInput if the dense blocks or the views cannot be parsed."""
        super().check()
        parse_blocks(self.dense_blocks, len(self.units), dense=True)


class LinearHead(Head):
    """The base class of linear heads with a direct solver, a function of heads.linear."""

    module: ClassVar[str] = "pipeline.heads.linear"
    solver: ClassVar[str]


@dataclass(frozen=True)
class LogisticHead(LinearHead):
    """Multinomial logistic regression with an L2 penalty, solved to convergence."""

    c: float = setting(1e-2, "inverse penalty, C of scikit-learn's LogisticRegression", low=1e-12, high=1e12)

    solver: ClassVar[str] = "pipeline.heads.linear:solve_penalised"
    loss: ClassVar[str] = "softmax"


@dataclass(frozen=True)
class UncalibratedHead(Head):
    """A kind whose logits need a temperature before the softmax."""

    temperature: float = setting(
        0.0, "temperature that divides the logits; 0: fit it on val", low=0.0, high=1e9
    )

    def check(self) -> None:
        """Raise BadInput if views cannot be parsed, or no images are left to fit a temperature on."""
        super().check()
        if self.fits_val and not self.temperature:
            raise BadInput(
                f"{self.name}: expected a temperature with fit_on={self.fit_on}, which leaves no images to "
                "fit it on; received 0"
            )


@dataclass(frozen=True)
class SvmHead(UncalibratedHead, LinearHead):
    """One-vs-rest linear support vector machines with the squared hinge loss."""

    c: float = setting(1e-3, "inverse penalty, C of scikit-learn's LinearSVC", low=1e-12, high=1e12)

    solver: ClassVar[str] = "pipeline.heads.linear:solve_penalised"
    loss: ClassVar[str] = "squared hinge"


@dataclass(frozen=True)
class RidgeHead(UncalibratedHead, LinearHead):
    """Least squares on targets of 1 and -1 with an L2 penalty, in closed form."""

    alpha: float = setting(1e3, "penalty, alpha of scikit-learn's RidgeClassifier", low=1e-9, high=1e15)

    solver: ClassVar[str] = "pipeline.heads.linear:solve_ridge"


@dataclass(frozen=True)
class NeighborsHead(UncalibratedHead):
    """Nearest neighbors by cosine similarity, with votes that fall with distance."""

    neighbours: int = setting(20, "number of neighbors", low=1, high=10_000)

    module: ClassVar[str] = "pipeline.heads.neighbours"


@dataclass(frozen=True)
class PrototypeHead(UncalibratedHead, LinearHead):
    """Nearest class mean."""

    solver: ClassVar[str] = "pipeline.heads.linear:solve_prototype"


def resolve_layers(recipe: Any, row: Backbone) -> Any:
    """Return a recipe with "all" layers replaced by the taps of its backbone, and any other unchanged."""
    reads_all = isinstance(recipe, Head) and recipe.layers == ALL_LAYERS
    return replace(recipe, layers=row.taps) if reads_all else recipe


def _decades(low: int, high: int, n: int) -> tuple[float, ...]:
    """Return 10^low to 10^high with n logarithmic steps per decade, rounded to six digits."""
    return tuple(float(f"{10 ** (low + step / n):.6g}") for step in range((high - low) * n + 1))


def _dense(name: str, blocks: str, *, weight_decay: float, space: dict[str, tuple[Any, ...]]) -> NetworkHead:
    """Return a head with one dense block."""
    return NetworkHead(
        name=name,
        title=f"dense head ({blocks})",
        dense_blocks=blocks,
        batch_size=256,
        units=(512,),
        weight_decay=weight_decay,
        space=space,
    )


LINEAR_SPACE = {
    "learning_rate": (1e-3, 3e-3, 1e-2, 3e-2),
    "weight_decay": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
}
DENSE_SPACE = {"learning_rate": (1e-3, 3e-3), "weight_decay": (0.3, 1.0), "dropout": (0.1, 0.2, 0.3, 0.5)}
NORM_SPACE = {"learning_rate": (1e-3, 3e-3), "weight_decay": (0.1, 0.3, 1.0, 3.0)}

HEADS: Table[Head] = Table(
    "head recipe",
    NetworkHead(
        name="linear",
        title="linear head",
        batch_size=256,
        learning_rate=1e-2,
        weight_decay=0.1,
        space=LINEAR_SPACE,
    ),
    _dense("dense", "dense - dropout", weight_decay=0.3, space=DENSE_SPACE),
    _dense("dense-bn", "dense - batch norm", weight_decay=1.0, space=NORM_SPACE),
    _dense("dense-bn-dropout", "dense - batch norm - dropout", weight_decay=1.0, space=DENSE_SPACE),
    LogisticHead(name="logistic", title="logistic regression", space={"c": _decades(-6, 5, 4)}),
    SvmHead(name="svm", title="linear SVM", space={"c": _decades(-7, 1, 2)}),
    RidgeHead(name="ridge", title="ridge classifier", space={"alpha": _decades(-2, 6, 4)}),
    NeighborsHead(
        name="knn", title="nearest neighbors", space={"neighbours": (1, 3, 5, 10, 20, 50, 100, 200)}
    ),
    PrototypeHead(name="prototype", title="nearest class mean"),
)
