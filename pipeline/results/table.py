"""The scores, one row each. Planning reads only their names, so functions are named, not imported."""

from dataclasses import dataclass

from pipeline.errors import Table
from pipeline.formatting import format_value


@dataclass(frozen=True)
class Score:
    """A number for probabilities (N, C) and labels (N,) of a split; a share of images has an interval.

    In CLASS_SCORES, function returns a number for each class, (C,); a share is one of the class's images.
    """

    name: str
    title: str
    function: str  # module:function
    unit: str = ""
    share: bool = False

    def format(self, value: float) -> str:
        """Return the formatted value: "61.2 %" if the unit is %, else three decimals and the unit."""
        return format_value(value, self.unit)


SCORES = Table(
    "score",
    Score("accuracy", "accuracy", "pipeline.results.scores:accuracy", unit="%", share=True),
    Score("balanced_accuracy", "balanced accuracy", "pipeline.results.scores:balanced_accuracy", unit="%"),
    Score("log_loss", "log loss", "pipeline.results.scores:log_loss", unit="nats"),
    Score("calibration_error", "calibration error", "pipeline.results.scores:calibration_error", unit="%"),
    Score("macro_f1", "macro F1", "pipeline.results.scores:macro_f1"),
)
CLASS_SCORES = Table(
    "score of classes",
    Score("precision", "precision", "pipeline.results.scores:class_precision", unit="%"),
    Score("recall", "recall", "pipeline.results.scores:class_recall", unit="%", share=True),
    Score("f1", "F1", "pipeline.results.scores:class_f1"),
    Score("support", "images", "pipeline.results.scores:class_support", unit="count"),
)
