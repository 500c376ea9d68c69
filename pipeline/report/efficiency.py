"""Label efficiency: accuracy on test against the labels that each scheme was given."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.datasets.table import parse_budget
from pipeline.formatting import markdown_table
from pipeline.heads.label_curve import CURVE
from pipeline.report.drawing import LINES, marks_of, new_figure, publish_figure
from pipeline.report.table import LABELS_CAPTION
from pipeline.results.scores import score
from pipeline.runs.result import read_run
from pipeline.storage.publishing import publish_csv, publish_text, read_manifest

TABLE = "labels.csv"
COLUMNS = ("scheme", "labels", "draw", "n_train", "accuracy", "n_test", "chosen")


def publish_efficiency(folder: Path, parts: Sequence[tuple[str, str, Path]], caption: str) -> list[str]:
    """Write table, page and picture of label efficiency to folder; return the names of all files.

    parts are (scheme, labels, folder) of runs, and of curves, whose labels are "".
    """
    rows = [row for scheme, labels, source in parts for row in _rows(scheme, labels, source)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    publish_csv(folder / TABLE, table)
    publish_text(folder / "labels.md", efficiency_markdown(table, caption))
    publish_text(folder / LABELS_CAPTION, caption)
    publish_figure(folder / "labels.png", draw_efficiency, table, caption)
    return [TABLE, "labels.md", LABELS_CAPTION, "labels.png"]


def _rows(scheme: str, labels: str, folder: Path) -> list[dict[Hashable, Any]]:
    """Return the rows of the table that a curve or a run gives."""
    if labels:
        run = read_run(folder)
        scores = score(run.split("test"))
        row: dict[Hashable, Any] = {"labels": labels, "n_train": run.recipe["n_train"], "chosen": ""}
        found = [{**row, "accuracy": scores["accuracy"], "n_test": scores["n"]}]
    else:
        found = pd.read_csv(read_manifest(folder).verified(CURVE)).to_dict("records")
    return [{**row, "scheme": scheme, "draw": parse_budget(row["labels"]).draw} for row in found]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each scheme and number of labels: mean, lowest, highest and spread over its draws.

    table has COLUMNS, a row a draw; accuracies are fractions of n_test images. spread is the standard
    deviation, NaN for a single draw. Rows come in the order of schemes, then of labels.
    """
    found = table.groupby(["scheme", "n_train"], sort=False, as_index=False).agg(
        labels=("labels", "first"),
        draws=("draw", "size"),
        accuracy=("accuracy", "mean"),
        low=("accuracy", "min"),
        high=("accuracy", "max"),
        spread=("accuracy", "std"),
    )
    by_scheme = found.groupby("scheme", sort=False)
    return pd.concat([rows.sort_values("n_train") for _, rows in by_scheme], ignore_index=True)


def read_efficiency(folder: Path) -> tuple[pd.DataFrame, str]:
    """Return the table and caption of a finished report; raise DamagedFile where a file is not as listed."""
    manifest = read_manifest(folder)
    caption = manifest.verified(LABELS_CAPTION).read_text(encoding="utf-8").strip()
    return pd.read_csv(manifest.verified(TABLE), keep_default_na=False), caption


def draw_efficiency(table: pd.DataFrame, caption: str) -> Figure:
    """Draw accuracy against the number of labels (logarithmic), a line a scheme, a band over its draws."""
    summary = summarise(table)
    figure, axes = new_figure(caption, width=9.0, height=5.8)
    lines: dict[str, Iterator[str]] = defaultdict(lambda: itertools.cycle(LINES))
    for scheme, rows in summary.groupby("scheme", sort=False):
        marks, labels = marks_of(str(scheme)), rows["n_train"]
        style = {**marks, "label": scheme, "markersize": 4, "linestyle": next(lines[marks["label"]])}
        axes.plot(labels, 100 * rows["accuracy"], **style)
        band: dict[str, Any] = {"color": marks["color"], "alpha": 0.15, "linewidth": 0}
        axes.fill_between(labels, 100 * rows["low"], 100 * rows["high"], **band)
    axes.set(xscale="log", title="Accuracy against labels", xlabel="training labels (logarithmic)")
    axes.set_ylabel("accuracy on test, % (mean of the draws; band: lowest to highest)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="best", fontsize=9)
    return figure


def efficiency_markdown(table: pd.DataFrame, caption: str) -> str:
    """Return the summary as Markdown: a row for each number of labels, a column a scheme."""
    summary = summarise(table)
    schemes = list(dict.fromkeys(summary["scheme"]))
    rows = []
    for count, group in summary.sort_values("n_train").groupby("n_train"):
        cells = group.set_index("scheme")
        texts = [_cell(cells.loc[scheme]) if scheme in cells.index else "–" for scheme in schemes]
        rows.append([f"{count:,} ({group['labels'].iloc[0].partition('#')[0]})", *texts])
    note = f"Accuracy on test: the mean over the draws ± their standard deviation. {caption}.\n"
    return "\n\n".join(["# Accuracy against labels", markdown_table(["labels", *schemes], rows), note])


def _cell(row: pd.Series) -> str:
    spread = f" ± {100 * row['spread']:.1f}" if row["draws"] > 1 else ""
    return f"{100 * row['accuracy']:.1f} %{spread}"
