"""The plots and findings, one row each. Planning reads their names, so functions are named, not imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.extensions import resolve


@dataclass(frozen=True)
class Plot:
    """A plot: name is the file's stem, function draws a RunResult or a Comparison.

    alt describes a plot of a comparison; it may use {label} and {accuracy} of the best run, {caption},
    {count} of the runs, {pairs} of schemes and how many are {real}.
    """

    name: str
    title: str
    function: str  # module:function
    alt: str = ""

    def draw(self, result: Any) -> Any:
        """Return the figure of a result."""
        return resolve(self.function)(result)


PLOTS = {
    row.name: row
    for row in (
        Plot("accuracy_over_time", "Accuracy over time", "pipeline.report.plots:accuracy_over_time"),
        Plot("loss_over_time", "Loss over time", "pipeline.report.plots:loss_over_time"),
        Plot("confusion_matrix", "Confusion matrix", "pipeline.report.plots:confusion_matrix"),
        Plot("per_class_accuracy", "Accuracy of each class", "pipeline.report.plots:per_class_accuracy"),
    )
}
COMPARISON_PLOTS = {
    row.name: row
    for row in (
        Plot(
            "accuracy_with_intervals",
            "Accuracy of each scheme",
            "pipeline.report.plots:accuracy_with_intervals",
            "Test accuracy with 95 % intervals of {count} runs; the best is {label} with {accuracy}. "
            "{caption}.",
        ),
        Plot(
            "accuracy_against_cost",
            "Accuracy against cost",
            "pipeline.report.plots:accuracy_against_cost",
            "Test accuracy against total time of {count} runs; the best is {label} with {accuracy}. "
            "{caption}.",
        ),
        Plot(
            "differences",
            "Which differences are real",
            "pipeline.report.matrix:differences",
            "Matrix of the differences in test accuracy between every two schemes; {real} of {pairs} are "
            "real after Holm's correction. {caption}.",
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
