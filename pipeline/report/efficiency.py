"""Label efficiency: test accuracy of each scheme by the number of training labels."""

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.datasets.table import parse_budget
from pipeline.formatting import markdown_table
from pipeline.report.drawing import DASHES, new_figure, publish_figure, style_of
from pipeline.report.table import LABELS_CAPTION
from pipeline.results.scores import score
from pipeline.runs.result import read_run
from pipeline.storage.layout import CURVE
from pipeline.storage.publishing import publish_csv, publish_text, read_manifest

LABELS_TABLE = "labels.csv"
EFFICIENCY_COLUMNS = ("scheme", "labels", "draw", "n_train", "accuracy", "n_test", "chosen")


def publish_efficiency(folder: Path, parts: Sequence[tuple[str, str, Path]], caption: str) -> list[str]:
    """Write the table, page and plot of label efficiency to folder; return the names of all files.

    parts are (scheme, labels, folder): labels is the label budget of a run, or "" for a curve of a head.
    """
    rows: list[dict[Hashable, Any]] = []
    for scheme, labels, source in parts:
        if labels:
            run = read_run(source)
            scores = score(run.split("test"))
            row: dict[Hashable, Any] = {"scheme": scheme, "labels": labels, "n_train": run.recipe["n_train"]}
            rows.append({**row, "accuracy": scores["accuracy"], "n_test": scores["n"], "chosen": ""})
        else:
            curve = pd.read_csv(read_manifest(source).verified(CURVE))
            rows += curve.assign(scheme=scheme).to_dict("records")
    table = pd.DataFrame(rows, columns=list(EFFICIENCY_COLUMNS))
    table["draw"] = [parse_budget(budget).draw for budget in table["labels"]]
    publish_csv(folder / LABELS_TABLE, table)
    publish_text(folder / "labels.md", efficiency_markdown(table, caption))
    publish_text(folder / LABELS_CAPTION, caption)
    publish_figure(folder / "labels.png", draw_efficiency, table, caption)
    return [LABELS_TABLE, "labels.md", LABELS_CAPTION, "labels.png"]


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each scheme and number of labels: mean, minimum, maximum and spread over its draws.

    table has EFFICIENCY_COLUMNS, one row for each draw; accuracies are fractions of n_test images. spread
    is the standard deviation, NaN for a single draw. Schemes keep their order; labels are ascending.
    """
    summary = table.groupby(["scheme", "n_train"], sort=False, as_index=False).agg(
        labels=("labels", "first"),
        draws=("draw", "size"),
        accuracy=("accuracy", "mean"),
        low=("accuracy", "min"),
        high=("accuracy", "max"),
        spread=("accuracy", "std"),
    )
    by_scheme = summary.groupby("scheme", sort=False)
    return pd.concat([rows.sort_values("n_train") for _, rows in by_scheme], ignore_index=True)


def read_efficiency(folder: Path) -> tuple[pd.DataFrame, str]:
    """Return the table and caption of a report; raise DamagedFile if they do not match its manifest."""
    manifest = read_manifest(folder)
    caption = manifest.verified(LABELS_CAPTION).read_text(encoding="utf-8").strip()
    return pd.read_csv(manifest.verified(LABELS_TABLE), keep_default_na=False), caption


def draw_efficiency(table: pd.DataFrame, caption: str) -> Figure:
    """Draw test accuracy over the number of labels (log scale): a line per scheme, a band over its draws."""
    summary = summarize(table)
    figure, axes = new_figure(caption, width=9.0, height=5.8)
    dashes: dict[str, Iterator[str]] = defaultdict(lambda: itertools.cycle(DASHES))
    for scheme, rows in summary.groupby("scheme", sort=False):
        family, labels = style_of(str(scheme)), rows["n_train"]
        style = {**family, "label": scheme, "markersize": 4, "linestyle": next(dashes[family["label"]])}
        axes.plot(labels, 100 * rows["accuracy"], **style)
        band: dict[str, Any] = {"color": family["color"], "alpha": 0.15, "linewidth": 0}
        axes.fill_between(labels, 100 * rows["low"], 100 * rows["high"], **band)
    axes.set(xscale="log", title="Label efficiency", xlabel="training labels (log scale)")
    axes.set_ylabel("test accuracy, % (mean over draws; band: min to max)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="best", fontsize=9)
    return figure


def efficiency_markdown(table: pd.DataFrame, caption: str) -> str:
    """Return the summary as Markdown: a row for each number of labels, a column for each scheme."""
    summary = summarize(table)
    schemes = list(dict.fromkeys(summary["scheme"]))
    rows = []
    for count, group in summary.sort_values("n_train").groupby("n_train"):
        texts = {
            row["scheme"]: f"{100 * row['accuracy']:.1f} %"
            + (f" ± {100 * row['spread']:.1f}" if row["draws"] > 1 else "")
            for row in group.to_dict("records")
        }
        budget = group["labels"].iloc[0].partition("#")[0]
        rows.append([f"{count:,} ({budget})", *(texts.get(scheme, "–") for scheme in schemes)])
    note = f"Test accuracy: mean ± standard deviation over draws. {caption}.\n"
    return "\n\n".join(["# Label efficiency", markdown_table(["labels", *schemes], rows), note])
