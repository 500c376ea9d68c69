"""The atlas as tables: a row a layer set and head, a row a class of them, and Markdown for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.formatting import markdown_table, shown, shown_interval, shown_seconds
from pipeline.report.atlas.costs import DepthCost
from pipeline.report.atlas.layer_sets import LOGISTIC, NEIGHBOURS, short_name
from pipeline.report.atlas.probe import Probe
from pipeline.results.scores import wilson_interval

COLUMNS_EXPLAINED = (
    "Penalty and number of neighbours were chosen on val for each row; accuracy on test, looked at once for "
    "each row, with its 95 % Wilson interval. Multiply-adds are those of the convolutions up to the deepest "
    "block, as a share of the whole backbone's. Seconds are those of extracting this data set that far: "
    "measured, or with “about” an estimate from an extraction that went further: its start, and the rest in "
    "proportion to the multiply-adds."
)


def atlas_table(probes: list[Probe], costs: list[DepthCost]) -> pd.DataFrame:
    """Return a row a probe: the set, its head and setting, accuracy on val and test, and the cost.

    Accuracies are fractions in 0..1 with 95 % Wilson intervals; seconds are those of the extraction up to
    the deepest block; costs has an entry a block.
    """
    return pd.DataFrame([_row(probe, costs[probe.layers.depth - 1]) for probe in probes])


def _row(probe: Probe, cost: DepthCost) -> dict[str, Any]:
    return {
        "blocks": probe.layers.name,
        "layers": ",".join(probe.layers.layers),
        "depth": probe.layers.depth,
        "width": probe.width,
        "head": probe.head,
        "setting": probe.setting,
        "value": probe.value,
        **_accuracy("val", probe.val),
        **_accuracy("test", probe.test),
        "multiply_adds": cost.multiply_adds,
        "multiply_adds_share": cost.share,
        "extract_seconds": cost.seconds,
        "extract_seconds_measured": cost.measured,
        "probe_seconds": round(probe.seconds, 3),
    }


def _accuracy(split: str, right: np.ndarray) -> dict[str, Any]:
    n, hits = len(right), int(right.sum())
    low, high = wilson_interval(hits, n)
    names = (f"{split}_accuracy", f"{split}_accuracy_low", f"{split}_accuracy_high")
    return {f"n_{split}": n, **dict(zip(names, (hits / n, low, high), strict=True))}


def class_table(probes: list[Probe], labels: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """Return a row a probe and class: its share of the class's test images, with its interval.

    labels (n_test,) are those of the test images. Classes without a test image are left out.
    """
    rows = []
    for probe in probes:
        for number, name in enumerate(class_names):
            right = probe.test[labels == number]
            if not len(right):
                continue
            found = _accuracy("test", right)
            rows.append({"blocks": probe.layers.name, "head": probe.head, "class": name, **found})
    return pd.DataFrame(rows)


def sets_markdown(table: pd.DataFrame) -> str:
    """Return an atlas's table as Markdown, a row a layer set; the best on val of each head in bold."""
    header = ["blocks", "features", "logistic regression, test", "val", "nearest neighbours, test", "val"]
    header += ["multiply-adds", "extraction"]
    by_head = {head: table[table["head"] == head].set_index("blocks") for head in (LOGISTIC, NEIGHBOURS)}
    rows = []
    for blocks, row in by_head[LOGISTIC].iterrows():
        cells = [short_name(blocks), f"{row['width']:,}"]
        for rows_of in by_head.values():
            cells += _accuracy_cells(rows_of.loc[blocks], rows_of["val_accuracy"].max())
        seconds = shown_seconds(row["extract_seconds"])
        about = "" if row["extract_seconds_measured"] else "about "
        rows.append([*cells, shown(row["multiply_adds_share"], "%"), f"{about}{seconds}"])
    return markdown_table(header, rows)


def _accuracy_cells(row: pd.Series, best: float) -> list[str]:
    on_test = shown_interval(row["test_accuracy"], row["test_accuracy_low"], row["test_accuracy_high"])
    on_val = shown(row["val_accuracy"], "%")
    return [f"**{cell}**" if row["val_accuracy"] == best else cell for cell in (on_test, on_val)]
