"""Label efficiency: accuracy on test against the labels that each scheme was given."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.datasets.budget import parse_budget
from pipeline.formatting import markdown_table
from pipeline.heads.label_curve import CURVE
from pipeline.report.figure import new_figure, publish_figure
from pipeline.report.plots import FAMILIES, OTHER_FAMILY
from pipeline.report.table import LABELS_CAPTION
from pipeline.results.scores import score
from pipeline.runs.result import family_of, read_run
from pipeline.storage.publishing import publish_csv, publish_text, read_manifest

LINES = ("-", "--", ":", "-.")
TABLE = "labels.csv"
COLUMNS = ("scheme", "labels", "draw", "n_train", "accuracy", "n_test", "chosen")


def publish_efficiency(folder: Path, parts: Sequence[tuple[str, str, Path]], caption: str) -> list[str]:
    """Write table, page and picture of label efficiency to folder; return the names of all files.

    parts are (scheme, labels, folder) of runs, and of curves, whose labels are "".
    """
    rows = [row for scheme, labels, source in parts for row in _rows(scheme, labels, source)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    publish_csv(folder / TABLE, table)
    publish_text(folder / "labels.md", efficiency_markdown(table, "Accuracy against labels", caption))
    publish_text(folder / LABELS_CAPTION, caption)
    publish_figure(folder / "labels.png", draw_efficiency, table, caption)
    return [TABLE, "labels.md", LABELS_CAPTION, "labels.png"]


def _rows(scheme: str, labels: str, folder: Path) -> list[dict[Hashable, Any]]:
    """Return the rows of the table that a curve or a run gives."""
    if labels:
        run = read_run(folder)
        test = run.split("test")
        found: list[dict[Hashable, Any]] = [
            {
                "labels": labels,
                "n_train": run.recipe["n_train"],
                "accuracy": score(test)["accuracy"],
                "n_test": len(test),
                "chosen": "",
            }
        ]
    else:
        found = pd.read_csv(read_manifest(folder).verified(CURVE)).to_dict("records")
    return [{**row, "scheme": scheme, "draw": parse_budget(row["labels"]).draw} for row in found]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each scheme and number of labels: mean, lowest, highest and spread over its draws.

    table has COLUMNS, a row a draw; accuracies are fractions of n_test images. spread is the standard
    deviation, NaN for a single draw. Rows come in the order of schemes, then of labels.
    """
    groups = table.groupby(["scheme", "n_train"], sort=False)
    found = groups.agg(
        labels=("labels", "first"),
        draws=("draw", "size"),
        accuracy=("accuracy", "mean"),
        low=("accuracy", "min"),
        high=("accuracy", "max"),
        spread=("accuracy", "std"),
        n_test=("n_test", "first"),
    ).reset_index()
    order = {scheme: place for place, scheme in enumerate(dict.fromkeys(table["scheme"]))}
    return found.sort_values(
        ["scheme", "n_train"], key=lambda column: column.map(order) if column.name == "scheme" else column
    ).reset_index(drop=True)


def read_efficiency(folder: Path) -> tuple[pd.DataFrame, str]:
    """Return the table and caption of a finished report; raise DamagedFile where a file is not as listed."""
    manifest = read_manifest(folder)
    caption = manifest.verified(LABELS_CAPTION).read_text(encoding="utf-8").strip()
    return pd.read_csv(manifest.verified(TABLE), keep_default_na=False), caption


def draw_efficiency(table: pd.DataFrame, caption: str) -> Figure:
    """Draw accuracy against the number of labels (logarithmic), a line a scheme, a band over its draws."""
    summary = summarise(table)
    figure, axes = new_figure(caption, width=9.0, height=5.8)
    seen: dict[str, int] = {}
    for scheme, rows in summary.groupby("scheme", sort=False):
        family = FAMILIES.get(family_of(str(scheme)), OTHER_FAMILY)
        style = LINES[seen.setdefault(family.title, 0) % len(LINES)]
        seen[family.title] += 1
        options: dict[str, Any] = {
            "color": family.colour,
            "linestyle": style,
            "marker": family.marker,
            "markersize": 4,
        }
        axes.plot(rows["n_train"], 100 * rows["accuracy"], label=scheme, **options)
        axes.fill_between(
            rows["n_train"],
            100 * rows["low"],
            100 * rows["high"],
            color=family.colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("training labels (logarithmic)")
    axes.set_ylabel("accuracy on test, % (mean of the draws; band: lowest to highest)")
    axes.set_title("Accuracy against labels")
    axes.legend(loc="best", fontsize=9)
    return figure


def efficiency_markdown(table: pd.DataFrame, title: str, caption: str) -> str:
    """Return the summary as Markdown: a row for each number of labels, a column a scheme."""
    summary = summarise(table)
    schemes = list(dict.fromkeys(summary["scheme"]))
    rows = []
    for count, group in summary.sort_values("n_train").groupby("n_train"):
        cells = group.set_index("scheme")
        texts = [_cell(cells.loc[scheme]) if scheme in cells.index else "–" for scheme in schemes]
        rows.append([f"{count:,} ({group['labels'].iloc[0].partition('#')[0]})", *texts])
    note = "Accuracy on test: the mean over the draws ± their standard deviation."
    return (
        "\n\n".join([f"# {title}", markdown_table(["labels", *schemes], rows), f"{note} {caption}."]) + "\n"
    )


def _cell(row: pd.Series) -> str:
    spread = f" ± {100 * row['spread']:.1f}" if row["draws"] > 1 else ""
    return f"{100 * row['accuracy']:.1f} %{spread}"
