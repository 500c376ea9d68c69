"""The report of a comparison: page, tables and plots, generated from the stored results of runs."""

from collections.abc import Collection
from pathlib import Path

from pipeline.report.page.content import PageSources, render_page
from pipeline.report.plots import publish_plots
from pipeline.report.table import COMPARISON_PAGE, COMPARISON_PLOTS, PLOTS
from pipeline.results.comparison import comparison_markdown, comparison_text
from pipeline.results.scores import metric_table, metrics_markdown
from pipeline.runs.result import read_run
from pipeline.storage.publishing import publish_csv, publish_text

TABLES = ("comparison.csv", "comparison.md", "comparison.txt", "differences.csv")


def write_comparison(
    folder: Path, sources: PageSources, up_to_date: Collection[str] = ()
) -> tuple[str, list[str]]:
    """Write the page, tables and plots of a comparison, except up_to_date plots.

    Returns the text for the terminal and all file names. The caller writes the manifest.
    """
    comparison = sources.comparison
    for name, table in (("comparison", comparison.table), ("differences", comparison.differences)):
        publish_csv(folder / f"{name}.csv", table)
    publish_text(folder / "comparison.md", comparison_markdown(comparison, sources.title))
    text = f"{comparison_text(comparison)}\n{comparison.caption}\n"
    publish_text(folder / "comparison.txt", text)
    plots = publish_plots(folder, COMPARISON_PLOTS, comparison, up_to_date)
    publish_text(folder / COMPARISON_PAGE, render_page(sources))
    return text, [COMPARISON_PAGE, *TABLES, *plots]


def publish_metrics(run: Path, folder: Path) -> list[str]:
    """Write metrics.csv and metrics.md of a run to folder and return their names."""
    result = read_run(run)
    publish_csv(folder / "metrics.csv", metric_table(result))
    publish_text(folder / "metrics.md", metrics_markdown(result))
    return ["metrics.csv", "metrics.md"]


def publish_run_plots(run: Path, folder: Path, up_to_date: Collection[str]) -> list[str]:
    """Write all PLOTS of a run to folder, except the up_to_date ones; return all names."""
    return publish_plots(folder, PLOTS, read_run(run), up_to_date)
