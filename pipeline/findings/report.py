"""All findings of a run: a row each, published as a table, a picture, and a page that explains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.findings import duplicates, hardest, labels
from pipeline.findings.pictures import SHOWN, Cell, draw_cells
from pipeline.findings.sources import Sources, read_sources
from pipeline.progress import Progress, silent
from pipeline.publishing import publish_text, published
from pipeline.results.run import caption, label
from pipeline.results.scores import markdown_table, score, shown

if TYPE_CHECKING:
    import pandas as pd

PAGE = "findings.md"
SHOWN_ROWS = 20  # rows of a table on the page; the CSV file has all


@dataclass(frozen=True)
class Finding:
    """A finding: name is the files' stem, words say what it is and how it is found.

    find makes the table, summary says it in a sentence, cell shows a row of it; all take the Sources first.
    """

    name: str
    title: str
    words: str
    find: Callable[[Sources], pd.DataFrame]
    summary: Callable[[Sources, pd.DataFrame], str]
    cell: Callable[[Sources, pd.Series], Cell]


FINDINGS = {
    row.name: row
    for row in (
        Finding(
            "label_errors", "Likely label errors", labels.WORDS, labels.find, labels.summary, labels.cell
        ),
        Finding(
            "duplicates",
            "Near-duplicates between train and test",
            duplicates.WORDS,
            duplicates.find,
            duplicates.summary,
            duplicates.cell,
        ),
        Finding("hardest", "Hardest images", hardest.WORDS, hardest.find, hardest.summary, hardest.cell),
    )
}


def files() -> list[str]:
    """Return the names of all files that publish_findings writes."""
    return [PAGE, *(f"{name}.{suffix}" for name in FINDINGS for suffix in ("csv", "png"))]


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
        table = row.find(sources)
        with published(target / f"{row.name}.csv") as scratch:
            table.to_csv(scratch, index=False)
        cells = [row.cell(sources, one) for _, one in table.head(SHOWN).iterrows()]
        title = f"{row.title}: {label(sources.run)}"
        draw_cells(cells, target / f"{row.name}.png", title=title, caption=described(sources))
        parts.append(section(row, sources, table))
    publish_text(target / PAGE, "\n\n".join(parts) + "\n")


def described(sources: Sources) -> str:
    """Return the line under every picture: the run's caption, its accuracy, and the layers compared."""
    accuracy = shown(score(sources.run.split("test"))["accuracy"], "%")
    features = sources.features.base["weights"]["name"]
    return (
        f"{caption(sources.run)} · accuracy on test {accuracy} · features {features}: "
        f"{', '.join(sources.layers)}"
    )


def section(row: Finding, sources: Sources, table: pd.DataFrame) -> str:
    """Return a finding as Markdown: its words, its summary, its picture and the first rows of its table."""
    summary = row.summary(sources, table)
    lines = [f"## {row.title}", row.words, summary]
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
