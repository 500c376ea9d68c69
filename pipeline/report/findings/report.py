"""Publish all findings of a run: a table and a picture of each, and a page that explains them."""

import importlib
from pathlib import Path

from pipeline.backbones.table import weights_name
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.formatting import format_value, markdown_table
from pipeline.progress import Progress, silent
from pipeline.report.drawing import publish_figure
from pipeline.report.findings.pictures import MAX_CELLS, draw_cells, prediction_cell
from pipeline.report.findings.sources import FindingSources
from pipeline.report.table import FINDINGS
from pipeline.results.scores import score
from pipeline.runs.result import caption, label, read_run
from pipeline.storage.publishing import publish_csv, publish_text

PAGE_ROWS = 20  # of a table on the page; the CSV file has all


def publish_findings(
    run: str, dataset: str, features: str, layers: list[str], folder: str, progress: Progress = silent
) -> list[str]:
    """Write the table and picture of each row of FINDINGS to folder, and a page that explains them.

    run, dataset and features are folders; duplicates are compared by these cached layers in identity view.
    Returns the names of all files. Raises DamagedFile if the folders have different images.
    """
    inputs = read_run(Path(run)), ImageStore(dataset), FeatureStore(features)
    sources, target = FindingSources(*inputs, tuple(layers), progress), Path(folder)
    name, accuracy = label(sources.run), format_value(score(sources.run.split("test"))["accuracy"], "%")
    compared = f"features {weights_name(sources.features.base['weights'])}: {', '.join(layers)}"
    line = f"{caption(sources.run)} · accuracy on test {accuracy} · {compared}"
    parts = [f"# Data findings: {name}", line]
    for number, row in enumerate(FINDINGS.values()):
        progress("find", number, len(FINDINGS), "findings")
        module = importlib.import_module(row.module)
        table = module.find(sources)
        publish_csv(target / f"{row.name}.csv", table)
        cell = getattr(module, "cell", prediction_cell)
        cells = [cell(sources, entry) for _, entry in table.head(MAX_CELLS).iterrows()]
        figure = cells, f"{row.title}: {name}", line
        publish_figure(target / f"{row.name}.png", draw_cells, *figure, colors=None)
        summary = module.summary(sources, table)
        parts += [f"## {row.title}", module.EXPLANATION, summary]
        parts.append(f"![{row.title} of {name}, the first {MAX_CELLS}. {summary}]({row.name}.png)")
        if not table.empty:
            first = table.head(PAGE_ROWS).map(
                lambda value: f"{value:.3f}" if isinstance(value, float) else value
            )
            parts.append(markdown_table(list(table.columns), first.to_numpy().tolist()))
        parts.append(f"{min(len(table), PAGE_ROWS)} of {len(table):,} rows. {row.name}.csv has all of them.")
    publish_text(target / "findings.md", "\n\n".join(parts) + "\n")
    return ["findings.md", *(f"{name}.{suffix}" for name in FINDINGS for suffix in ("csv", "png"))]
