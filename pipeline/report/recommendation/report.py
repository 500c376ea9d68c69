"""Publish a recommendation: the probes as a table, the choice with its reasons and commands, a picture."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.backbones.table import BACKBONES, weights_name
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.formatting import align_columns, format_bytes, format_duration, format_share
from pipeline.progress import Progress, silent
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.report import drawing
from pipeline.report.plots import time_axis
from pipeline.report.recommendation.probe import Probe, probe_sizes
from pipeline.report.recommendation.rule import RULE, Choice, choose, short_name
from pipeline.results.comparison import TEXT_WIDTH
from pipeline.results.scores import with_interval
from pipeline.storage import publishing

FILES = [f"recommendation.{suffix}" for suffix in ("csv", "png", "json", "txt")]
TABLE, PICTURE, CHOICE, TEXT = FILES


def recommend(
    fingerprint: dict[str, Any],
    command: str,
    dataset: str,
    weights: str,
    folder: str,
    progress: Progress = silent,
) -> str:
    """Probe the input sizes of a fingerprint within its budget, publish the recommendation, return its text.

    command is `headstart train` with the options of data and weights, to which the choice is added.
    """
    images, target, bases = ImageStore(dataset), Path(folder), fingerprint["features"]
    probes = probe_sizes(bases, images, read_weights(Path(weights)), fingerprint["budget"], progress)
    choice = choose(probes, min(images.image_size, bases[-1]["input_size"]))
    row = BACKBONES[bases[0]["backbone"]]
    layers = ",".join(row.taps[block - 1] for block in choice.blocks)
    through = 0 if row.bypassed else choice.freeze_through
    size = f"--input-size {choice.input_size}"
    exact = [row.name for row in FINE_TUNE_RECIPES.values() if row.freeze_through == through]
    recipe = exact[0] if exact else f"blocks4_5 --freeze-through {through}"
    commands = [
        command.replace("train", "train tuned-head --recipe dense-bn-dropout", 1)
        + f" {size} --layers {layers}",
        command.replace("train", f"train fine-tune --recipe {recipe}", 1) + f" {size}",
    ]
    n = len(probes[0].correct)
    rows = [
        {
            "input_size": probe.input_size,
            "blocks": short_name(probe.blocks),
            "features": probe.width,
            **with_interval("accuracy", probe.accuracy, n),
            "extract_seconds": probe.seconds,
            "bytes": probe.bytes,
        }
        for probe in probes
    ]
    table = pd.DataFrame(rows)
    best = table.loc[table.groupby("input_size")["accuracy"].idxmax()]
    left_out = sorted({base["input_size"] for base in bases} - set(table["input_size"]))
    total = len(images) - images.counts["test"]
    data = f"{n:,} of the {total:,} train and val images of {images.row.title}"
    how = f"weights {weights_name(bases[0]['weights'])} · {bases[0]['precision']} · {data}"
    lines = [
        f"Logistic regression on cached features · {how}",
        "",
        *_lines(best),
        *([f"No time was left for {', '.join(map(str, left_out))} px; raise --budget."] if left_out else []),
        "",
        f"All joins at {choice.input_size} px",
        *_lines(table[table["input_size"] == choice.input_size]),
        "",
        *(line for reason in choice.reasons for line in textwrap.wrap(reason, TEXT_WIDTH)),
        "",
        *textwrap.wrap(RULE, TEXT_WIDTH),
        "",
        *commands,
    ]
    publishing.publish_csv(target / TABLE, table)
    publishing.publish_text(target / TEXT, "\n".join(lines) + "\n")
    stored = {"choice": asdict(choice), "layers": layers, "n": n, "commands": commands}
    publishing.publish_json(target / CHOICE, stored)
    drawing.publish_figure(target / PICTURE, draw, probes, best, choice, how)
    publishing.publish_manifest(target, fingerprint, FILES)
    return "\n".join(lines)


def _lines(table: pd.DataFrame) -> list[str]:
    rows = [["input px", "blocks", "features", "val accuracy", "extraction", "on disk"]]
    for row in table.to_dict("records"):
        time = f"about {format_duration(row['extract_seconds'])}"
        first = [f"{row[name]}" for name in ("input_size", "blocks", "features")]
        rows.append([*first, format_share(row, "accuracy"), time, format_bytes(row["bytes"])])
    return align_columns(rows)


def draw(probes: Sequence[Probe], best: pd.DataFrame, choice: Choice, caption: str) -> Figure:
    """Draw the best join of each size against its cost, and all joins at the recommended size by depth."""
    figure = drawing.empty_figure(caption, width=10.5, height=4.8)
    left, right = figure.subplots(1, 2)
    style = {**drawing.POINTS, "linestyle": "-", **drawing.SERIES[0]}
    seconds, bars = best["extract_seconds"], drawing.error_bars(best, "accuracy")
    left.errorbar(seconds, 100 * best["accuracy"], yerr=bars, **style)
    for row in best.to_dict("records"):
        bold = {"fontweight": "bold"} if row["input_size"] == choice.input_size else {}
        place = (row["extract_seconds"], 100 * row["accuracy"])
        left.annotate(f"{row['input_size']} px", place, (7, -13), fontsize=9, **bold, **drawing.OFFSET)
    time_axis(left, seconds.min() / 1.5, seconds.max() * 2)
    left.set(xlabel="time to extract the whole data set", ylabel="val accuracy, % (95 % Wilson interval)")
    left.set_title("Best join of each input size", pad=20)
    at_size = [probe for probe in probes if probe.input_size == choice.input_size]
    series = iter(drawing.SERIES)
    for first in sorted({probe.blocks[0] for probe in at_size}):
        group = [probe for probe in at_size if probe.blocks[0] == first]
        values = [100 * probe.accuracy for probe in group]
        right.plot([probe.blocks[-1] for probe in group], values, label=f"from block {first}", **next(series))
    right.axvline(choice.freeze_through + 0.5, color=drawing.GRAY, linestyle="--", linewidth=1.2)
    drawing.annotate_above(right, choice.freeze_through + 0.5, "◂ frozen | trained ▸", color=drawing.GRAY)
    right.set_xticks(range(1, at_size[-1].blocks[-1] + 1))
    right.set(xlabel="through block", ylabel="val accuracy, %")
    right.set_title(f"Joins of consecutive blocks at {choice.input_size} px", pad=20)
    right.legend(fontsize=9)
    return figure
