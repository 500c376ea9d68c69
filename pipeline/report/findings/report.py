"""All findings of a run: a row each, published as a table, a picture, and a page that explains them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pandas as pd

from pipeline.formatting import markdown_table, shown
from pipeline.progress import Progress, silent
from pipeline.report.findings.pictures import SHOWN, draw_cells
from pipeline.report.findings.sources import Sources, read_sources
from pipeline.report.table import FINDINGS, FINDINGS_PAGE, Finding
from pipeline.results.scores import score
from pipeline.runs.result import caption, label
from pipeline.storage.publishing import publish_csv, publish_text

SHOWN_ROWS = 20  # rows of a table on the page; the CSV file has all


def publish_findings(
    run: str, dataset: str, features: str, layers: list[str], folder: str, progress: Progress = silent
) -> None:
    """Write the table and the picture of every row of FINDINGS to folder, and the page that explains them.

    run, dataset and features are folders of the graph; layers are cached ones, compared in identity view.
    Raises DamagedFile when they are of different images.
    """
    sources, target = read_sources(run, dataset, features, layers, progress), Path(folder)
    parts = [f"# Data findings: {label(sources.run)}", described(sources)]
    for number, row in enumerate(FINDINGS.values()):
        progress("find", number, len(FINDINGS), "findings")
        module = importlib.import_module(row.module)
        table = module.find(sources)
        publish_csv(target / f"{row.name}.csv", table)
        cells = [module.cell(sources, one) for _, one in table.head(SHOWN).iterrows()]
        title = f"{row.title}: {label(sources.run)}"
        draw_cells(cells, target / f"{row.name}.png", title=title, caption=described(sources))
        parts.append(section(row, module.WORDS, module.summary(sources, table), sources, table))
    publish_text(target / FINDINGS_PAGE, "\n\n".join(parts) + "\n")


def described(sources: Sources) -> str:
    """Return the line under every picture: the run's caption, its accuracy, and the layers compared."""
    accuracy = shown(score(sources.run.split("test"))["accuracy"], "%")
    features = sources.features.base["weights"]["name"]
    return (
        f"{caption(sources.run)} · accuracy on test {accuracy} · features {features}: "
        f"{', '.join(sources.layers)}"
    )


def section(row: Finding, words: str, summary: str, sources: Sources, table: pd.DataFrame) -> str:
    """Return a finding as Markdown: its words, its summary, its picture and the first rows of its table."""
    lines = [f"## {row.title}", words, summary]
    lines.append(f"![{row.title} of {label(sources.run)}, the first {SHOWN}. {summary}]({row.name}.png)")
    if not table.empty:
        first = table.head(SHOWN_ROWS)
        lines.append(
            markdown_table(
                list(table.columns),
                [[_cell(value) for value in one] for one in first.itertuples(index=False)],
            )
        )
    lines.append(f"{min(len(table), SHOWN_ROWS)} of {len(table):,} rows; all are in {row.name}.csv.")
    return "\n\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
