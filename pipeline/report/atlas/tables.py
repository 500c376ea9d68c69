"""The tables of an atlas: cost of each block, accuracy of each layer set and head, accuracy by class.

Costs in multiply-adds are exact; costs in seconds are measured or estimated.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.backbones.table import BACKBONES
from pipeline.errors import DamagedFile
from pipeline.features.sections import finished_sections, multiply_adds
from pipeline.formatting import format_duration, format_interval, format_value, markdown_table
from pipeline.report.atlas.layer_sets import KNN, LOGISTIC, short_name
from pipeline.results.scores import wilson_interval
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import read_sealed
from pipeline.views import IDENTITY

if TYPE_CHECKING:  # it loads TensorFlow
    from pipeline.report.atlas.probe import Probe

COLUMNS_EXPLAINED = (
    "The penalty and the number of neighbors are chosen on val for each row. Accuracy on test is evaluated "
    "once for each row and has a 95 % Wilson interval. Multiply-adds are those of the convolutions up to the "
    "deepest block, as a share of the backbone's. Extraction is the time to extract this data set up to that "
    "block. “About” marks estimates from an extraction of deeper blocks: its startup time, plus the rest in "
    "proportion to the multiply-adds."
)


@dataclass(frozen=True)
class DepthCost:
    """The cost of running a backbone up to a block.

    multiply_adds are those of the convolutions for one image, share is their share of the whole backbone's,
    0..1. seconds are for all images of the data set; they are measured if an extraction stopped there.
    """

    multiply_adds: int
    share: float
    seconds: float
    measured: bool


def costs_by_depth(cache: Path) -> list[DepthCost]:
    """Return the cost up to each block, first block first, from the finished sections of a feature cache.

    If no extraction of the identity view stopped at a block, its seconds are estimated from the shallowest
    extraction that went further: its seconds before the first image, plus those after it in proportion to
    the multiply-adds. Raises DamagedFile if no extraction reached a block.
    """
    sections = [section for section in finished_sections(cache) if section.view == IDENTITY]
    if not sections:
        raise DamagedFile(f"{cache}: no finished features of the identity view; extract them first")
    base = sections[0].base
    taps = BACKBONES[base["backbone"]].taps
    work = [multiply_adds(base, (tap,)) for tap in taps]
    reached = [(max(map(taps.index, section.layers)), section) for section in sections]
    reached.sort(key=lambda pair: (pair[0], -len(pair[1].layers)))
    depth_costs = []
    for depth, tap in enumerate(taps):
        reaching = [pair for pair in reached if pair[0] >= depth]
        if not reaching:
            raise DamagedFile(f"{sections[0].cache}: no finished features reach {tap}; extract all layers")
        end, section = reaching[0]
        costs = read_sealed(section.folder / COSTS)
        after_start = min(costs["seconds"], costs["images"] / costs["images_per_second"])
        seconds = costs["seconds"] - after_start + work[depth] / work[end] * after_start
        share, measured = work[depth] / work[-1], end == depth
        depth_costs.append(DepthCost(work[depth], share, round(seconds, 3), measured))
    return depth_costs


def atlas_table(probes: list[Probe], costs: list[DepthCost]) -> pd.DataFrame:
    """Return a row for each probe: layer set, head, setting, accuracy on val and test, and cost.

    Accuracies are fractions in 0..1 with 95 % Wilson intervals; extract_seconds cover the extraction up to
    the deepest block; costs has an entry for each block.
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


def _accuracy(split: str, correct: np.ndarray) -> dict[str, Any]:
    n, hits = len(correct), int(correct.sum())
    low, high = wilson_interval(hits, n)
    name = f"{split}_accuracy"
    return {f"n_{split}": n, name: hits / n, f"{name}_low": low, f"{name}_high": high}


def class_table(probes: list[Probe], labels: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """Return a row for each probe and class: accuracy on the class's test images, with its interval.

    labels (n_test,) are those of the test images. Classes without test images are omitted.
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
    """Return an atlas's table as Markdown, one row per layer set; the best of each head on val is bold."""
    header = ["blocks", "features", "logistic regression, test", "val", "nearest neighbors, test", "val"]
    header += ["multiply-adds", "extraction"]
    best = table.groupby("head")["val_accuracy"].max()
    by_head = [table[table["head"] == head].to_dict("records") for head in (LOGISTIC, KNN)]
    rows = []
    for pair in zip(*by_head, strict=True):
        row = pair[0]
        accuracies = [cell for probe in pair for cell in _accuracy_cells(probe, best[probe["head"]])]
        about = "" if row["extract_seconds_measured"] else "about "
        share, seconds = row["multiply_adds_share"], row["extract_seconds"]
        cost = [format_value(share, "%"), about + format_duration(seconds)]
        rows.append([short_name(row["blocks"]), f"{row['width']:,}", *accuracies, *cost])
    return markdown_table(header, rows)


def _accuracy_cells(row: dict[Hashable, Any], best: float) -> list[str]:
    on_test = format_interval(*(row[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
    cells = [on_test, format_value(row["val_accuracy"], "%")]
    return [f"**{cell}**" for cell in cells] if row["val_accuracy"] == best else cells
