"""The effect of bfloat16 and float16 on features and on a head trained on them, compared with float32.

    python benchmarks/precision.py [--dataset cifar10] [--weights imagenet] [--subset N] [--seeds 0,1,2]

Caches the features of blocks 3, 4 and 5 three times (computed in float32 or bfloat16, stored as float32 or
float16), trains the recipe head:linear on each with the same seeds, and prints Markdown tables: cosine
similarity of each layer's features to those of float32, size of the cache, accuracy on test. Caches and runs
are stored in the data folder and reused if they exist.
"""

from __future__ import annotations

import argparse
import sys

import luigi
import numpy as np

from pipeline.features.store import FeatureStore
from pipeline.runs.result import read_run
from tasks import TrainHead

VARIANTS = (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "float16"))
LAYERS = ("block3_pool", "block4_pool", "block5_pool")


def main() -> int:
    """Train all heads and print the tables."""
    options = _options()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    shared = {"dataset": options.dataset, "weights": options.weights, "subset": options.subset}
    heads = {
        (precision, storage): [
            TrainHead(
                recipe="linear", layers=LAYERS, precision=precision, storage=storage, seed=seed, **shared
            )
            for seed in seeds
        ]
        for precision, storage in VARIANTS
    }
    if not luigi.build(sum(heads.values(), []), local_scheduler=True, log_level="WARNING"):
        return 1
    stores = {variant: FeatureStore(tasks[0].features_task.folder) for variant, tasks in heads.items()}
    print(_similarity_table(stores))
    print(_accuracy_table(heads, stores))
    images = len(next(iter(stores.values())).labels)
    print(f"\n{images:,} images of {options.dataset}, weights {options.weights}, seeds {options.seeds}.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--weights", default="imagenet", help="weights (default: imagenet)")
    parser.add_argument("--subset", type=int, default=0, help="number of images, 0 for all (default: 0)")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the heads (default: 0,1,2)")
    return parser.parse_args()


def _similarity_table(stores: dict) -> str:
    lines = ["| layer | computed in | stored as | cosine, mean | lowest | relative difference |"]
    lines.append("|---|---|---|---:|---:|---:|")
    for layer in LAYERS:
        exact = stores[VARIANTS[0]].load([layer])
        for variant in VARIANTS[1:]:
            features = stores[variant].load([layer])
            norms = np.linalg.norm(exact, axis=1), np.linalg.norm(features, axis=1)
            cosine = (exact * features).sum(1) / norms[0] / norms[1]
            relative = np.linalg.norm(exact - features) / np.linalg.norm(exact)
            lines.append(
                f"| {layer} | {variant[0]} | {variant[1]} | {cosine.mean():.6f} | {cosine.min():.6f} "
                f"| {relative:.5f} |"
            )
    return "\n".join(lines) + "\n"


def _accuracy_table(heads: dict, stores: dict) -> str:
    lines = ["| computed in | stored as | MB | accuracy on test, % by seed | mean |"]
    lines.append("|---|---|---:|---|---:|")
    for variant, tasks in heads.items():
        accuracies = [_accuracy(task.folder) for task in tasks]
        size = stores[variant].costs(LAYERS)["bytes"] / 1e6
        each = ", ".join(f"{100 * value:.2f}" for value in accuracies)
        mean = 100 * np.mean(accuracies)
        lines.append(f"| {variant[0]} | {variant[1]} | {size:.0f} | {each} | {mean:.2f} |")
    return "\n".join(lines)


def _accuracy(folder) -> float:
    test = read_run(folder).split("test")
    return float((test.probabilities.argmax(axis=1) == test.labels).mean())


if __name__ == "__main__":
    sys.exit(main())
