"""The metric tables and the plots of one run, from what it stored."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipeline.report.plots import draw
from pipeline.report.table import PLOTS
from pipeline.results.scores import metric_table, metrics_markdown
from pipeline.runs.result import read_run
from pipeline.storage.publishing import publish_csv, publish_text


def publish_metrics(run: Path, folder: Path) -> list[str]:
    """Write metrics.csv and metrics.md of a run to folder; return their names."""
    result = read_run(run)
    publish_csv(folder / "metrics.csv", metric_table(result))
    publish_text(folder / "metrics.md", metrics_markdown(result))
    return ["metrics.csv", "metrics.md"]


def publish_plots(run: Path, folder: Path, kept: Collection[str]) -> list[str]:
    """Draw every row of PLOTS that is not kept to folder; return the names of all."""
    result = read_run(run)
    files = {name: f"{name}.png" for name in PLOTS}
    for name, file in files.items():
        if file not in kept:
            draw(name, result, folder / file)
    return [*files.values()]
