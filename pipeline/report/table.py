"""The plots and findings, one row each. Planning reads their names, so functions are named, not imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.names import resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.results.comparison import Comparison
    from pipeline.runs.result import RunResult


@dataclass(frozen=True)
class Plot:
    """A plot: name is the file's stem; function draws; alt may use {label}, {caption} and {accuracy}.

    A comparison's alt may also use {count} of the runs, {pairs} of schemes and how many are {real}.
    """

    name: str
    title: str
    alt: str
    function: str  # module:function, of a RunResult or a Comparison

    def draw(self, result: RunResult | Comparison) -> Figure:
        """Return the figure."""
        return resolve(self.function)(result)


PLOTS = {
    row.name: row
    for row in (
        Plot(
            "accuracy_over_time",
            "Accuracy over time",
            "Line plot of training and validation accuracy against the epoch for {label}. {caption}.",
            "pipeline.report.plots:accuracy_over_time",
        ),
        Plot(
            "loss_over_time",
            "Loss over time",
            "Line plot of training and validation loss against the epoch for {label}. {caption}.",
            "pipeline.report.plots:loss_over_time",
        ),
        Plot(
            "confusion_matrix",
            "Confusion matrix",
            "Matrix of true against predicted classes on test for {label}, which is right on {accuracy} of "
            "the images. {caption}.",
            "pipeline.report.plots:confusion_matrix",
        ),
        Plot(
            "per_class_accuracy",
            "Accuracy of each class",
            "Bars of the test accuracy of each class for {label} around an overall {accuracy}. {caption}.",
            "pipeline.report.plots:per_class_accuracy",
        ),
    )
}


COMPARISON_PLOTS = {
    row.name: row
    for row in (
        Plot(
            "accuracy_with_intervals",
            "Accuracy of each scheme",
            "Test accuracy with 95 % intervals of {count} runs; the best is {label} with "
            "{accuracy}. {caption}.",
            "pipeline.report.plots:accuracy_with_intervals",
        ),
        Plot(
            "accuracy_against_cost",
            "Accuracy against cost",
            "Test accuracy against total time of {count} runs; the best is {label} with "
            "{accuracy}. {caption}.",
            "pipeline.report.plots:accuracy_against_cost",
        ),
        Plot(
            "differences",
            "Which differences are real",
            "Matrix of the differences in test accuracy between every two schemes; {real} of {pairs} are "
            "real after Holm's correction. {caption}.",
            "pipeline.report.matrix:differences",
        ),
    )
}


@dataclass(frozen=True)
class Finding:
    """A finding: name is the files' stem; module has what it is and how it is found.

    WORDS explains it; find(sources) makes the table, summary(sources, table) says it in a sentence,
    cell(sources, row) shows a row of it.
    """

    name: str
    title: str
    module: str


FINDINGS = {
    row.name: row
    for row in (
        Finding("label_errors", "Likely label errors", "pipeline.report.findings.labels"),
        Finding(
            "duplicates", "Near-duplicates between train and test", "pipeline.report.findings.duplicates"
        ),
        Finding("hardest", "Hardest images", "pipeline.report.findings.hardest"),
    )
}
LABELS_CAPTION = "caption.txt"  # of a report of label efficiency
FINDINGS_PAGE, PAGE = "findings.md", "index.html"


def findings_files() -> list[str]:
    """Return the names of all files that publish_findings writes."""
    return [FINDINGS_PAGE, *(f"{name}.{suffix}" for name in FINDINGS for suffix in ("csv", "png"))]
