"""Publish all findings of a run: a table and a picture of each, and a page that explains them."""

import importlib
from pathlib import Path

import pandas as pd

from pipeline.backbones.table import weights_name
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.formatting import format_value, markdown_table
from pipeline.progress import Progress, silent
from pipeline.report.findings.pictures import MAX_CELLS, draw_cells
from pipeline.report.findings.sources import FindingSources
from pipeline.report.table import FINDINGS, FINDINGS_PAGE
from pipeline.results.scores import score
from pipeline.runs.result import caption, label, read_run
from pipeline.storage.publishing import publish_csv, publish_text

PAGE_ROWS = 20  # of a table on the page; the CSV file has all


def publish_findings(
    run: str, dataset: str, features: str, layers: list[str], folder: str, progress: Progress = silent
) -> None:
    """Write the table and picture of each row of FINDINGS to folder, and a page that explains them.

    run, dataset and features are folders; duplicates are compared by these cached layers in identity view.
    Raises DamagedFile if the folders have different images.
    """
    inputs = read_run(Path(run)), ImageStore(dataset), FeatureStore(features)
    sources, target = FindingSources(*inputs, tuple(layers), progress), Path(folder)
    name, line = label(sources.run), _caption(sources)
    parts = [f"# Data findings: {name}", line]
    for number, row in enumerate(FINDINGS.values()):
        progress("find", number, len(FINDINGS), "findings")
        module = importlib.import_module(row.module)
        table = module.find(sources)
        publish_csv(target / f"{row.name}.csv", table)
        cells = [module.cell(sources, entry) for _, entry in table.head(MAX_CELLS).iterrows()]
        draw_cells(cells, target / f"{row.name}.png", title=f"{row.title}: {name}", caption=line)
        summary = module.summary(sources, table)
        parts += [f"## {row.title}", module.EXPLANATION, summary]
        parts.append(f"![{row.title} of {name}, the first {MAX_CELLS}. {summary}]({row.name}.png)")
        if not table.empty:
            parts.append(_first_rows(table))
        parts.append(f"{min(len(table), PAGE_ROWS)} of {len(table):,} rows. {row.name}.csv has all of them.")
    publish_text(target / FINDINGS_PAGE, "\n\n".join(parts) + "\n")


def _caption(sources: FindingSources) -> str:
    """Return the caption of every picture: the run's caption, its accuracy, and the compared layers."""
    accuracy = format_value(score(sources.run.split("test"))["accuracy"], "%")
    features = f"features {weights_name(sources.features.base['weights'])}: {', '.join(sources.layers)}"
    return f"{caption(sources.run)} · accuracy on test {accuracy} · {features}"


def _first_rows(table: pd.DataFrame) -> str:
    rows = table.head(PAGE_ROWS).itertuples(index=False)
    cells = [[f"{item:.3f}" if isinstance(item, float) else str(item) for item in row] for row in rows]
    return markdown_table(list(table.columns), cells)
