"""The scores, one row each. Planning reads their names, so functions are named and not imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.formatting import shown
from pipeline.names import resolve

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Score:
    """A number for a whole split; a share is a fraction of its N images and gets a Wilson interval."""

    name: str
    title: str
    higher_is_better: bool
    function: str  # module:function
    unit: str = ""
    share: bool = False

    def value(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        """Return the score of probabilities (N, C) for labels (N,)."""
        return resolve(self.function)(probabilities, labels)

    def shown(self, value: float) -> str:
        """Return value for people: "61.2 %" where the unit is %, else three decimals and the unit."""
        return shown(value, self.unit)


@dataclass(frozen=True)
class ClassScore:
    """A number for each class: function returns (C,); a share is a fraction of the class's images."""

    name: str
    title: str
    function: str  # module:function
    unit: str = ""
    share: bool = False

    def values(self, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the score (C,) of each class, from probabilities (N, C) and labels (N,)."""
        return resolve(self.function)(probabilities, labels)


SCORES = {
    row.name: row
    for row in (
        Score("accuracy", "accuracy", True, "pipeline.results.scores:accuracy", unit="%", share=True),
        Score("log_loss", "log loss", False, "pipeline.results.scores:log_loss", unit="nats"),
        Score(
            "calibration_error",
            "calibration error",
            False,
            "pipeline.results.scores:calibration_error",
            unit="%",
        ),
        Score("macro_f1", "macro F1", True, "pipeline.results.scores:macro_f1"),
    )
}


CLASS_SCORES = {
    row.name: row
    for row in (
        ClassScore("precision", "precision", "pipeline.results.scores:class_precision", unit="%"),
        ClassScore("recall", "recall", "pipeline.results.scores:class_recall", unit="%", share=True),
        ClassScore("f1", "F1", "pipeline.results.scores:class_f1"),
        ClassScore("support", "images", "pipeline.results.scores:class_support", unit="count"),
    )
}
