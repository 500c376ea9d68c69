"""The heads, one row each: a kind, its settings, and the settings that a sweep tries.

A kind is a dataclass of settings and a module with two functions:

    fit(recipe, data, *, seed, history, progress) -> keras.Model
        features in, answers (B, C) out of a layer named "logits"
    answers(recipe, points, data, *, precision, progress) -> list of (V, n, C) float32
        what heads with the settings of each point answer on the val rows of each view

Answers become probabilities by a softmax, after a division by a temperature where the kind is not
calibrated by its own loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

from pipeline.datasets.table import FINAL, FIT_ON
from pipeline.errors import BadInput
from pipeline.notation import parse_dense_blocks
from pipeline.recipes.base import Labelled, Training, rows_by_name
from pipeline.recipes.settings import setting
from pipeline.views import IDENTITY, parse_views

ALL_LAYERS = ("all",)  # the taps of whichever backbone


@dataclass(frozen=True)
class Head(Labelled):
    """What all kinds have in common. space names the values that a sweep tries of some settings."""

    layers: tuple[str, ...] = setting(ALL_LAYERS, "cached layers that are joined, or all")
    views: tuple[str, ...] = setting((IDENTITY,), "cached views to train on and to average predictions over")
    fit_on: str = setting("train", "images that it is fitted on", choices=FIT_ON)
    space: dict[str, tuple[Any, ...]] = field(default_factory=dict, compare=False)

    module: ClassVar[str]
    calibrated: ClassVar[bool] = True

    @property
    def fits_val(self) -> bool:
        """Whether val is among what it is trained on."""
        return self.fit_on == FINAL

    def check(self) -> None:
        """Raise BadInput when views cannot be read, or nothing is left to fit a temperature on."""
        super().check()
        parse_views(",".join(self.views))
        if not self.calibrated and self.fit_on != "train" and not cast(Uncalibrated, self).temperature:
            raise BadInput(
                f"{self.name}: expected a temperature beside fit_on={self.fit_on}, because no image is left "
                "to fit it on; received 0"
            )


@dataclass(frozen=True)
class NetworkHead(Head, Training):
    """Dense blocks and a softmax, trained by gradient steps; one view of an image is drawn each epoch."""

    dense_blocks: str = setting("dense - dropout", "dense blocks in the notation")
    units: tuple[int, ...] = setting((), "units of each dense block; none: a linear head", low=1, high=65536)
    dropout: float = setting(0.5, "dropout rate where the block gives none", low=0.0, high=0.95)
    variance_floor: float = setting(0.0, "variance floor, relative to the mean variance", low=0.0, high=1.0)

    module: ClassVar[str] = "pipeline.heads.network"

    def check(self) -> None:
        """Raise BadInput when the dense blocks or the views cannot be read."""
        super().check()
        parse_dense_blocks(self.dense_blocks, max(1, len(self.units)))


@dataclass(frozen=True)
class LogisticHead(Head):
    """Multinomial logistic regression with an L2 penalty, solved to convergence."""

    c: float = setting(1e-2, "inverse penalty, C of scikit-learn's LogisticRegression", low=1e-12, high=1e12)

    module: ClassVar[str] = "pipeline.heads.logistic"
    loss: ClassVar[str] = "softmax"


@dataclass(frozen=True)
class Uncalibrated(Head):
    """A kind whose answers are no log-probabilities."""

    temperature: float = setting(
        0.0, "divisor of the logits before the softmax; 0: fit it on val", low=0.0, high=1e9
    )

    calibrated: ClassVar[bool] = False


@dataclass(frozen=True)
class SvmHead(Uncalibrated):
    """Linear support vector machines, one against the rest, with the squared hinge loss."""

    c: float = setting(1e-3, "inverse penalty, C of scikit-learn's LinearSVC", low=1e-12, high=1e12)

    module: ClassVar[str] = "pipeline.heads.logistic"
    loss: ClassVar[str] = "squared hinge"


@dataclass(frozen=True)
class RidgeHead(Uncalibrated):
    """Least squares on targets of 1 and -1 with an L2 penalty, in closed form."""

    alpha: float = setting(1e3, "penalty, alpha of scikit-learn's RidgeClassifier", low=1e-9, high=1e15)

    module: ClassVar[str] = "pipeline.heads.ridge"


@dataclass(frozen=True)
class NeighboursHead(Uncalibrated):
    """The nearest training images by cosine, each with a vote that falls with its distance."""

    neighbours: int = setting(20, "images that vote", low=1, high=10_000)

    module: ClassVar[str] = "pipeline.heads.neighbours"


@dataclass(frozen=True)
class PrototypeHead(Uncalibrated):
    """The nearest mean of a class's training images."""

    module: ClassVar[str] = "pipeline.heads.prototype"


def with_layers(recipe: Any, taps: tuple[str, ...]) -> Any:
    """Return a recipe that reads all layers as one that names them; others as they are."""
    reads_all = isinstance(recipe, Head) and recipe.layers == ALL_LAYERS
    return replace(recipe, layers=taps) if reads_all else recipe


def _decades(low: int, high: int, each: int) -> tuple[float, ...]:
    """Return powers of ten from 10^low to 10^high, so many a decade, rounded to six digits."""
    return tuple(float(f"{10 ** (low + step / each):.6g}") for step in range((high - low) * each + 1))


def _dense(name: str, blocks: str, *, weight_decay: float, space: dict[str, tuple[Any, ...]]) -> NetworkHead:
    """Return a head of one dense block."""
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

HEADS: dict[str, Head] = rows_by_name(
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
    NeighboursHead(
        name="knn", title="nearest neighbours", space={"neighbours": (1, 3, 5, 10, 20, 50, 100, 200)}
    ),
    PrototypeHead(name="prototype", title="nearest class mean"),
)
