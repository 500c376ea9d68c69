"""Label efficiency: accuracy on test against the labels that each scheme was given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.publishing import read_manifest
from pipeline.results.figure import new_figure
from pipeline.results.plots import FAMILIES, OTHER_FAMILY
from pipeline.results.run import family_of
from pipeline.results.scores import markdown_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LINES = ("-", "--", ":", "-.")
TABLE, CAPTION = "labels.csv", "caption.txt"
COLUMNS = ("scheme", "labels", "draw", "n_train", "accuracy", "n_test", "chosen")


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
    import pandas as pd

    manifest = read_manifest(folder)
    caption = manifest.verified(CAPTION).read_text(encoding="utf-8").strip()
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
