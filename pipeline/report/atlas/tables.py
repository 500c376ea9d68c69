"""The atlas as tables: what each block costs, a row a layer set and head, a row a class, and Markdown.

A cost is exact in multiply-adds, and measured or estimated in seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.backbones.table import BACKBONES
from pipeline.errors import DamagedFile
from pipeline.features.sections import finished_sections, multiply_adds
from pipeline.formatting import format_duration, format_interval, format_value, markdown_table
from pipeline.report.atlas.layer_sets import LOGISTIC, NEIGHBOURS, short_name
from pipeline.report.atlas.probe import Probe
from pipeline.results.scores import wilson_interval
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import read_sealed
from pipeline.views import IDENTITY

COLUMNS_EXPLAINED = (
    "Penalty and number of neighbours were chosen on val for each row; accuracy on test, looked at once for "
    "each row, with its 95 % Wilson interval. Multiply-adds are those of the convolutions up to the deepest "
    "block, as a share of the whole backbone's. Seconds are those of extracting this data set that far: "
    "measured, or with “about” an estimate from an extraction that went further: its start, and the rest in "
    "proportion to the multiply-adds."
)


@dataclass(frozen=True)
class DepthCost:
    """What it takes to run a backbone up to a block.

    multiply_adds are those of the convolutions for one image, share is their part of the whole backbone's,
    0..1. seconds are for all images of the data set; they were measured where an extraction stopped there.
    """

    multiply_adds: int
    share: float
    seconds: float
    measured: bool


def costs_by_depth(cache: Path) -> list[DepthCost]:
    """Return the cost up to each block, from the first on, by the finished sections of a feature cache.

    Seconds up to a block where no extraction of the identity view stopped are estimates: of the shallowest
    that went further, the seconds before its first image, and its seconds after it in proportion to the
    multiply-adds. Raises DamagedFile where no extraction reached a block.
    """
    sections = [section for section in finished_sections(cache) if section.view == IDENTITY]
    if not sections:
        raise DamagedFile(f"{cache}: no finished features of the identity view; extract them first")
    base = sections[0].base
    taps = BACKBONES[base["backbone"]].taps
    work = [multiply_adds(base, (tap,)) for tap in taps]
    reached = [(max(map(taps.index, section.layers)), section) for section in sections]
    reached.sort(key=lambda pair: (pair[0], -len(pair[1].layers)))
    found = []
    for depth, tap in enumerate(taps):
        reaching = [pair for pair in reached if pair[0] >= depth]
        if not reaching:
            raise DamagedFile(f"{sections[0].cache}: no finished features reach {tap}; extract all layers")
        end, section = reaching[0]
        costs = read_sealed(section.folder / COSTS)
        after_start = min(costs["seconds"], costs["images"] / costs["images_per_second"])
        seconds = costs["seconds"] - after_start + work[depth] / work[end] * after_start
        found.append(DepthCost(work[depth], work[depth] / work[-1], round(seconds, 3), measured=end == depth))
    return found


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
        **{name: getattr(probe, name) for name in ("width", "head", "setting", "value")},
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
    name = f"{split}_accuracy"
    return {f"n_{split}": n, name: hits / n, f"{name}_low": low, f"{name}_high": high}


def class_table(probes: list[Probe], labels: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """Return a row a probe and class: its share of the class's test images, with its interval.

    labels (n_test,) are those of the test images. Classes without a test image are left out.
    """
    rows = [
        {
            **{"blocks": probe.layers.name, "head": probe.head, "class": name},
            **_accuracy("test", probe.test[labels == number]),
        }
        for probe in probes
        for number, name in enumerate(class_names)
        if (labels == number).any()
    ]
    return pd.DataFrame(rows)


def sets_markdown(table: pd.DataFrame) -> str:
    """Return an atlas's table as Markdown, a row a layer set; the best on val of each head in bold."""
    header = ["blocks", "features", "logistic regression, test", "val", "nearest neighbours, test", "val"]
    header += ["multiply-adds", "extraction"]
    best = table.groupby("head")["val_accuracy"].max()
    by_head = [table[table["head"] == head].to_dict("records") for head in (LOGISTIC, NEIGHBOURS)]
    rows = []
    for pair in zip(*by_head, strict=True):
        row = pair[0]
        accuracies = [cell for one in pair for cell in _accuracy_cells(one, best[one["head"]])]
        about = "" if row["extract_seconds_measured"] else "about "
        cost = [
            format_value(row["multiply_adds_share"], "%"),
            about + format_duration(row["extract_seconds"]),
        ]
        rows.append([short_name(row["blocks"]), f"{row['width']:,}", *accuracies, *cost])
    return markdown_table(header, rows)


def _accuracy_cells(row: dict[Hashable, Any], best: float) -> list[str]:
    on_test = format_interval(*(row[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
    cells = [on_test, format_value(row["val_accuracy"], "%")]
    return [f"**{cell}**" for cell in cells] if row["val_accuracy"] == best else cells
