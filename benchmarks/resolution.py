"""VGG16 by input size and by what is trained: accuracy, time and disk space of each cell of a table.

    python benchmarks/resolution.py [--sizes 32,64] [--schemes dense,block5] [--budget 2.5]
        [--engine openvino] [--plan]

A cell is one run of a scheme at one input size (by default on all of CIFAR-10 with ImageNet's weights), a
task of the graph: what is in the data folder is not run again, and an interrupted cell resumes. First, the
estimated time of every cell is printed. With a budget in hours, cells are run, the cheapest first, as long
as the estimate of the next one fits into what is left; the others are marked as not run. --plan runs none and
writes the table of what is there.

Writes resolution.csv, resolution.md and resolution.png to --out (default: data/reports/resolution).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import luigi
import pandas as pd
from matplotlib.figure import Figure

from pipeline.backbones.engines import DEFAULT_ENGINE, ENGINES
from pipeline.errors import HeadstartError
from pipeline.features.store import FeatureStore
from pipeline.formatting import format_bytes, format_duration, format_share, markdown_table
from pipeline.recipes.presets import LARGE_SWEEP
from pipeline.report import drawing
from pipeline.report.plots import pareto_front, time_axis
from pipeline.results.comparison import compare
from pipeline.runs.result import read_run
from pipeline.storage.publishing import read_manifest
from tasks import ScoreRun
from tasks.commands.plan import estimates_of, steps, tasks_of
from tasks.configuration import data_folder
from tasks.features import FeatureTask

SIZES = (32, 48, 64, 96, 128, 160, 192, 224)
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {  # in the order of the table
    "linear": ("tuned-head:linear", LARGE_SWEEP),
    "dense": ("tuned-head:dense-bn-dropout", LARGE_SWEEP),
    "top": ("fine-tune:top_only", {}),
    "block5": ("fine-tune:block5", {}),
    "blocks4_5": ("fine-tune:blocks4_5", {}),
    "everything": ("fine-tune:whole", {}),
}
TITLES = {
    "linear": "linear head",
    "dense": "dense head",
    "top": "top only",
    "block5": "block 5 from cached maps",
    "blocks4_5": "blocks 4 and 5 from cached maps",
    "everything": "everything",
}
NOT_RUN = "not run"


def main() -> int:
    """Estimate and run the cells, and write the table and the picture."""
    options = _options()
    tasks = {
        (scheme, size): _cell(options, scheme, size) for scheme in options.schemes for size in options.sizes
    }
    try:
        _run(tasks, options.budget * 3600, only_plan=options.plan)
    except HeadstartError as error:
        sys.exit(f"resolution: {error}")
    runs = {cell: read_run(task.run_task.folder) for cell, task in tasks.items() if task.complete()}
    if not runs:
        print("resolution: no cell has been run yet", file=sys.stderr)
        return 0
    comparison = compare([*runs.values()])
    table = comparison.table.assign(
        cell=[scheme for scheme, _ in runs],
        engine=[tasks[cell].engine for cell in runs],
        bytes=[run.costs["bytes"] + _feature_bytes(tasks[cell]) for cell, run in runs.items()],
    )
    folder = options.out or data_folder() / "reports" / "resolution"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "resolution.csv", index=False)
    (folder / "resolution.md").write_text(_markdown(table, options), encoding="utf-8")
    drawing.publish_figure(folder / "resolution.png", _figure, table, comparison.caption)
    print(f"{folder / 'resolution.md'}: {len(runs)} of {len(tasks)} cells")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes, names = ",".join(map(str, SIZES)), ",".join(SCHEMES)
    parser.add_argument("--sizes", default=sizes, help=f"pixels per side (default: {sizes})")
    parser.add_argument("--schemes", default=names, help=f"rows of the table (default: {names})")
    parser.add_argument("--budget", type=float, default=float("inf"), help="hours (default: no limit)")
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--subset", type=int, default=0, help="images in a subset (default: all)")
    parser.add_argument("--weights", default="imagenet", help="weights (default: imagenet)")
    parser.add_argument("--engine", default=DEFAULT_ENGINE, choices=ENGINES, help="engine of extraction")
    parser.add_argument("--plan", action="store_true", help="run nothing; print estimates, write the table")
    parser.add_argument("--out", type=Path, help="folder of the results")
    options = parser.parse_args()
    options.schemes = options.schemes.split(",")
    if unknown := sorted(set(options.schemes) - set(SCHEMES)):
        parser.error(f"--schemes: expected some of {names}, received {unknown}")
    try:
        options.sizes = [int(size) for size in options.sizes.split(",")]
    except ValueError:
        parser.error(f"--sizes: expected numbers such as {sizes}, received {options.sizes!r}")
    return options


def _cell(options: argparse.Namespace, scheme: str, size: int) -> ScoreRun:
    """Return the task of a cell: with the engine that was asked for, or with one that has run it already."""
    first, *others = (
        ScoreRun(
            scheme=SCHEMES[scheme][0],
            settings=SCHEMES[scheme][1],
            dataset=options.dataset,
            subset=options.subset,
            weights=options.weights,
            engine=engine,
            input_size=size,
        )
        for engine in sorted(ENGINES, key=lambda engine: engine != options.engine)
    )
    return next((task for task in (first, *others) if task.run_task.complete()), first)


def _run(tasks: dict[tuple[str, int], ScoreRun], seconds: float, *, only_plan: bool) -> None:
    """Run the tasks that are not complete, the cheapest first, while their estimates fit into the seconds."""
    costs = {cell: _seconds(task) for cell, task in tasks.items()}
    for cell in sorted(costs, key=lambda cell: costs[cell]):
        state = "done" if tasks[cell].complete() else f"about {format_duration(costs[cell])}"
        print(f"{TITLES[cell[0]]} at {cell[1]} px: {state}", file=sys.stderr)
    end = time.monotonic() + seconds
    while not only_plan:
        costs = {cell: _seconds(task) for cell, task in tasks.items() if not task.complete()}
        cell = min(costs, key=lambda cell: costs[cell], default=None)
        if cell is None or costs[cell] > end - time.monotonic():
            return
        print(f"run {TITLES[cell[0]]} at {cell[1]} px", file=sys.stderr, flush=True)
        if not luigi.build([tasks[cell]], local_scheduler=True, log_level="WARNING"):
            sys.exit(f"resolution: {cell} failed, see above; finished cells are kept")


def _seconds(task: ScoreRun) -> float:
    """Return the estimated seconds of a cell with all that it still needs."""
    return sum(estimate.seconds or 0.0 for estimate in estimates_of(steps(task)).values())


def _feature_bytes(task: ScoreRun) -> int:
    """Return the bytes of all cached features that a run reads."""
    sizes = {}
    for features in (part for part in tasks_of(task) if isinstance(part, FeatureTask)):
        layers, views = (features.fingerprint[name] for name in ("layers", "views"))
        store = FeatureStore(features.folder)
        for section in store.sections_of(layers, views):
            sizes[section.folder] = read_manifest(section.folder).bytes
    return sum(sizes.values())


def _markdown(table: pd.DataFrame, options: argparse.Namespace) -> str:
    """Return the table: a row for each input size, a column for each scheme."""
    cells = {(row["cell"], row["input_size"]): row for row in table.to_dict("records")}
    best = max(cells.values(), key=lambda row: row["accuracy"])

    def text(row: dict[str, Any] | None) -> str:
        if row is None:
            return NOT_RUN
        accuracy = format_share(row, "accuracy")
        seconds = row["extract_seconds"], row["total_seconds"] - row["extract_seconds"]
        times = " + ".join(map(format_duration, seconds))
        return f"{f'**{accuracy}**' if row is best else accuracy}; {times}; {format_bytes(row['bytes'])}"

    header = ["input px", *(TITLES[scheme] for scheme in options.schemes)]
    rows = [
        [str(size), *(text(cells.get((scheme, size))) for scheme in options.schemes)]
        for size in options.sizes
    ]
    engines = "; ".join(
        f"{engine} at {', '.join(map(str, sorted(set(rows['input_size']))))} px"
        for engine, rows in table.groupby("engine")
    )
    note = (
        "Test accuracy with its 95 % Wilson interval; time of extraction + sweep and training; bytes on "
        f"disk, with the cached features. Engines of extraction: {engines}."
    )
    return f"{markdown_table(header, rows)}\n\n{note}\n"


def _figure(table: pd.DataFrame, text: str) -> Figure:
    """Draw accuracy against total time: a line for each scheme, a mark for each size, the Pareto front."""
    figure, axes = drawing.new_figure(text, width=9.0, height=6.0)
    table = table.assign(seconds=table["total_seconds"])
    left, right = table["seconds"].min() / 1.5, table["seconds"].max() * 1.5
    front = pareto_front(table)
    axes.step(
        [*front["seconds"], right],
        [*(100 * front["accuracy"]), 100 * front["accuracy"].max()],
        where="post", color=drawing.GRAY, linewidth=1.2, linestyle="--", zorder=1, label="Pareto front",
    )  # fmt: skip
    for style, name in zip(drawing.SERIES, TITLES, strict=False):
        rows = table[table["cell"] == name].sort_values("input_size")
        if rows.empty:
            continue
        axes.plot(rows["seconds"], 100 * rows["accuracy"], label=TITLES[name], markersize=6, **style)
        for row in rows.to_dict("records"):
            place = (row["seconds"], 100 * row["accuracy"])
            axes.annotate(str(row["input_size"]), place, (5, -11), fontsize=8, **drawing.OFFSET)
    time_axis(axes, left, right)
    axes.set(xlabel="total time including extraction (log scale)", ylabel="test accuracy, %")
    axes.set_title("VGG16 by input size (numbers: pixels) and by what is trained")
    axes.legend(loc="lower right", fontsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
