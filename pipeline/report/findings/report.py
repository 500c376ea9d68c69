"""All findings of a run: a row each, published as a table, a picture, and a page that explains them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pandas as pd

from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.formatting import format_value, markdown_table
from pipeline.progress import Progress, silent
from pipeline.report.findings.pictures import SHOWN, draw_cells
from pipeline.report.findings.sources import Sources
from pipeline.report.table import FINDINGS, FINDINGS_PAGE
from pipeline.results.scores import score
from pipeline.runs.result import caption, label, read_run
from pipeline.storage.publishing import publish_csv, publish_text

SHOWN_ROWS = 20  # rows of a table on the page; the CSV file has all


def publish_findings(
    run: str, dataset: str, features: str, layers: list[str], folder: str, progress: Progress = silent
) -> None:
    """Write the table and the picture of every row of FINDINGS to folder, and the page that explains them.

    run, dataset and features are folders of the graph; layers are cached ones, compared in identity view.
    Raises DamagedFile when they are of different images.
    """
    read = read_run(Path(run)), ImageStore(dataset), FeatureStore(features)
    sources, target = Sources(*read, tuple(layers), progress), Path(folder)
    name, described = label(sources.run), _described(sources)
    parts = [f"# Data findings: {name}", described]
    for number, row in enumerate(FINDINGS.values()):
        progress("find", number, len(FINDINGS), "findings")
        module = importlib.import_module(row.module)
        table = module.find(sources)
        publish_csv(target / f"{row.name}.csv", table)
        cells = [module.cell(sources, one) for _, one in table.head(SHOWN).iterrows()]
        draw_cells(cells, target / f"{row.name}.png", title=f"{row.title}: {name}", caption=described)
        summary = module.summary(sources, table)
        parts += [f"## {row.title}", module.WORDS, summary]
        parts.append(f"![{row.title} of {name}, the first {SHOWN}. {summary}]({row.name}.png)")
        if not table.empty:
            parts.append(_first_rows(table))
        parts.append(f"{min(len(table), SHOWN_ROWS)} of {len(table):,} rows; all are in {row.name}.csv.")
    publish_text(target / FINDINGS_PAGE, "\n\n".join(parts) + "\n")


def _described(sources: Sources) -> str:
    """Return the line under every picture: the run's caption, its accuracy, and the layers compared."""
    accuracy = format_value(score(sources.run.split("test"))["accuracy"], "%")
    features = f"features {sources.features.base['weights']['name']}: {', '.join(sources.layers)}"
    return f"{caption(sources.run)} · accuracy on test {accuracy} · {features}"


def _first_rows(table: pd.DataFrame) -> str:
    rows = table.head(SHOWN_ROWS).itertuples(index=False)
    cells = [[f"{one:.3f}" if isinstance(one, float) else str(one) for one in row] for row in rows]
    return markdown_table(list(table.columns), cells)
