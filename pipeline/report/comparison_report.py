"""The report of a comparison: one page, tables and plots, written from the runs that are compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.report.atlas.report import atlas_markdown, atlas_text, read_atlas
from pipeline.report.efficiency import read_efficiency
from pipeline.report.page.content import Sources
from pipeline.report.page.render import publish_page
from pipeline.report.plots import draw, draw_comparison
from pipeline.report.table import COMPARISON_PLOTS, PAGE, PLOTS
from pipeline.results.comparison import compare, comparison_markdown, comparison_text
from pipeline.results.scores import metric_table, metrics_markdown
from pipeline.runs.result import RunResult, read_run
from pipeline.storage.publishing import publish_csv, publish_text

TABLES = ("comparison.csv", "comparison.md", "comparison.txt", "differences.csv")


def write_comparison(
    folder: Path,
    runs: Sequence[RunResult],
    title: str,
    *,
    stores: dict[str, Path],
    commands: dict[str, str],
    command: str = "",
    atlases: Sequence[Path] = (),
    efficiency: Sequence[Path] = (),
    kept: Collection[str] = (),
) -> tuple[str, list[str]]:
    """Write page, tables and plots of a comparison, of which kept are there already; all but the manifest.

    stores has the folders of prepared data sets by key, commands the command that trains each run by its
    folder's name, command the one that makes all of this; atlases and efficiency are folders of reports that
    are shown as well. Returns the text for a terminal and the names of all files.
    """
    comparison, shown = compare(runs), [read_atlas(folder) for folder in atlases]
    for name, table in (("comparison", comparison.table), ("differences", comparison.differences)):
        publish_csv(folder / f"{name}.csv", table)
    sections = [comparison_markdown(comparison, title)]
    for atlas in shown:
        pictures = f"../{atlas.folder.parent.name}/{atlas.folder.name}/"
        sections.append(f"## Layer atlas\n\n{atlas_markdown(atlas, pictures)}\n")
    publish_text(folder / "comparison.md", "\n".join(sections))
    text = f"{comparison_text(comparison)}\n{comparison.caption}\n"
    text += "".join(f"\nLayer atlas\n{atlas_text(atlas)}\n" for atlas in shown)
    publish_text(folder / "comparison.txt", text)
    for name in COMPARISON_PLOTS:
        if f"{name}.png" not in kept:
            draw_comparison(name, comparison, folder / f"{name}.png")
    sources = Sources(
        title=title,
        runs=runs,
        comparison=comparison,
        atlases=shown,
        efficiency=[read_efficiency(place) for place in efficiency],
        stores=stores,
        commands=commands,
        command=command,
    )
    publish_page(folder / PAGE, sources)
    return text, [PAGE, *TABLES, *(f"{name}.png" for name in COMPARISON_PLOTS)]


def publish_metrics(run: Path, folder: Path) -> list[str]:
    """Write metrics.csv and metrics.md of a run to folder; return their names."""
    result = read_run(run)
    publish_csv(folder / "metrics.csv", metric_table(result))
    publish_text(folder / "metrics.md", metrics_markdown(result))
    return ["metrics.csv", "metrics.md"]


def publish_plots(run: Path, folder: Path, kept: Collection[str]) -> list[str]:
    """Draw every row of PLOTS that is not kept to folder; return the names of all."""
    result = read_run(run)
    for name in PLOTS:
        if f"{name}.png" not in kept:
            draw(name, result, folder / f"{name}.png")
    return [f"{name}.png" for name in PLOTS]
