"""The scores, one row each. Planning reads only their names, so functions are named, not imported."""

from dataclasses import dataclass

from pipeline.formatting import format_value


@dataclass(frozen=True)
class Score:
    """A number for probabilities (N, C) and labels (N,) of a split; a share of images has an interval."""

    name: str
    title: str
    function: str  # module:function
    unit: str = ""
    share: bool = False

    def format(self, value: float) -> str:
        """Return the formatted value: "61.2 %" if the unit is %, else three decimals and the unit."""
        return format_value(value, self.unit)


class ClassScore(Score):
    """A number for each class: function returns (C,); a share is a fraction of the images of the class."""


SCORES = {
    row.name: row
    for row in (
        Score("accuracy", "accuracy", "pipeline.results.scores:accuracy", unit="%", share=True),
        Score("log_loss", "log loss", "pipeline.results.scores:log_loss", unit="nats"),
        Score(
            "calibration_error", "calibration error", "pipeline.results.scores:calibration_error", unit="%"
        ),
        Score("macro_f1", "macro F1", "pipeline.results.scores:macro_f1"),
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
