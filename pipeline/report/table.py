"""The plots and findings, one row each. Planning reads only names: functions are named, not imported."""

from dataclasses import dataclass

from pipeline.errors import Table


@dataclass(frozen=True)
class Plot:
    """A plot: name is the file's stem, function draws a RunResult or a Comparison."""

    name: str
    title: str
    function: str  # module:function


PLOTS = Table(
    "plot",
    Plot("accuracy_over_time", "Learning curve: accuracy", "pipeline.report.plots:accuracy_over_time"),
    Plot("loss_over_time", "Learning curve: loss", "pipeline.report.plots:loss_over_time"),
    Plot("confusion_matrix", "Confusion matrix", "pipeline.report.plots:confusion_matrix"),
    Plot("per_class_accuracy", "Test accuracy by class", "pipeline.report.plots:per_class_accuracy"),
)
COMPARISON_PLOTS = Table(
    "comparison plot",
    Plot(
        "accuracy_with_intervals", "Test accuracy by scheme", "pipeline.report.plots:accuracy_with_intervals"
    ),
    Plot("accuracy_against_cost", "Accuracy vs. cost", "pipeline.report.plots:accuracy_against_cost"),
)


@dataclass(frozen=True)
class Finding:
    """A finding about the data: name is the stem of its files, module implements it.

    In module, find(sources) returns the table and summary(sources, table) a sentence about it; EXPLANATION
    is its text. cell(sources, row) returns a row's cell in the figure, by default the image and prediction.
    """

    name: str
    title: str
    module: str


FINDINGS = Table(
    "finding",
    Finding("label_errors", "Likely label errors", "pipeline.report.findings.label_errors"),
    Finding("duplicates", "Near-duplicates between train and test", "pipeline.report.findings.duplicates"),
    Finding("hardest", "Hardest images", "pipeline.report.findings.hardest"),
)
LABELS_CAPTION = "caption.txt"  # of a label efficiency report
COMPARISON_PAGE = "index.html"
