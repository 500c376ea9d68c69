"""The best frozen head by input size and layers: accuracy and cost.

    python benchmarks/frozen_heads.py [--dataset cifar10] [--weights imagenet] [--sizes 32,48,64]
                                      [--recipe linear] [--views identity]

For each input size and layer set, a sweep selects the settings on val, and the selected head is refitted on
train and val and scored once on test (TrainTunedHead). Features, sweeps and runs are stored in the data
folder and reused if they exist. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import sys

import luigi

from pipeline.features.store import FeatureStore
from pipeline.formatting import format_duration, format_interval
from pipeline.machine import describe
from pipeline.results.scores import score
from pipeline.runs.result import read_run
from pipeline.storage.publishing import read_manifest
from tasks import ExtractFeatures, TrainTunedHead

LAYER_SETS = ("3,4,5", "2,3,4", "1,2,3,4,5")
SPACE = {"learning_rate": [0.003, 0.01, 0.03], "weight_decay": [0.01, 0.1, 1.0]}
EPOCHS, BATCH = 20, 1024


def main() -> int:
    """Train all heads and print the table."""
    options = _options()
    shared = {"dataset": options.dataset, "weights": options.weights}
    views = options.views.split(",")
    sizes = [int(size) for size in options.sizes.split(",")]
    # All layers first, so one extraction serves every layer set.
    features = {
        size: ExtractFeatures(layers="all", views=options.views, input_size=size, **shared) for size in sizes
    }
    runs = {
        (size, layers): TrainTunedHead(
            recipe=options.recipe,
            layers=tuple(f"block{block}_pool" for block in layers.split(",")),
            views=views,
            epochs=EPOCHS,
            batch_size=BATCH,
            space=SPACE,
            input_size=size,
            **shared,
        )
        for size in sizes
        for layers in LAYER_SETS
    }
    for tasks in (features, runs):
        if not luigi.build([*tasks.values()], local_scheduler=True, log_level="WARNING"):
            return 1
    lines = [
        "| input | blocks | test accuracy (95 % interval) | extraction | sweep | final fit |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for (size, layers), task in runs.items():
        lines.append(_row(size, layers, task, features[size]))
    facts = describe()
    print("\n".join(lines))
    print(f"\n{options.recipe} heads, views {options.views}, {facts['processor']}, {facts['cores']} cores.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--weights", default="imagenet", help="weights (default: imagenet)")
    parser.add_argument("--sizes", default="32,48,64", help="input sizes in pixels (default: 32,48,64)")
    parser.add_argument("--recipe", default="linear", help="head trained in epochs (default: linear)")
    parser.add_argument("--views", default="identity", help="cached views (default: identity)")
    return parser.parse_args()


def _row(size: int, layers: str, task: TrainTunedHead, features: ExtractFeatures) -> str:
    run = read_run(task.folder)
    values = score(run.split("test"))
    accuracy = format_interval(values["accuracy"], values["accuracy_low"], values["accuracy_high"])
    costs = json.loads(read_manifest(task.folder).verified("costs.json").read_text(encoding="utf-8"))
    store = FeatureStore(features.folder)
    extraction = store.costs([], tuple(task.chosen.views))["seconds"]
    seconds = [
        format_duration(value) for value in (extraction, costs["tune_seconds"], costs["train_seconds"])
    ]
    return f"| {size} px | {layers.replace(',', '+')} | {accuracy} | {' | '.join(seconds)} |"


if __name__ == "__main__":
    sys.exit(main())
