"""What a feature cache saves: a head trained from it, and with the frozen network in the loop.

    python benchmarks/break_even.py --dataset FOLDER --weights FOLDER [--input-size 96] [--epochs 20]

Runs these sides one after another, each in its own process, on all images of a prepared data set (a folder
in data/datasets) with downloaded weights (a folder in data/raw/weights):

- extract: all five taps of VGG16 into an empty cache;
- head: one run of the recipe head:linear from that cache, including writing model, predictions and costs;
- in-the-loop: the same head for one epoch of the training images with the frozen network computed anew, at
  the speed of this project: the same passes as the extraction, in as many threads;
- keras: the same with Keras `fit`, float32, batches of 256, which is what most people write.

Prints the measured seconds without the start of each process, and what the page of a report computes from the
stored costs of the same run (pipeline/results/break_even.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline import numerics
from pipeline.backbones.table import WeightsChoice
from pipeline.features.sections import cache_fingerprint
from pipeline.machine import resolve_precision
from pipeline.storage.publishing import read_manifest

TAPS = [f"block{block}_pool" for block in range(1, 6)]
BATCH = 256


def main() -> int:
    """Run all sides and print the break-even."""
    options = _options()
    if options.side:
        print(json.dumps(SIDES[options.side](options)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results = {side: _in_process(side, Path(folder), options) for side in SIDES}
    print(_summary(results, options))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="such as data/datasets/cifar10-...")
    parser.add_argument(
        "--weights", type=Path, required=True, help="such as data/raw/weights/vgg16-imagenet-..."
    )
    parser.add_argument("--input-size", type=int, default=32, help="pixels (default: 32)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a head (default: 20)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_process(side: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    values = {"dataset": options.dataset, "weights": options.weights, "folder": folder}
    values |= {"input-size": options.input_size, "epochs": options.epochs, "side": side}
    arguments = [str(part) for name, value in values.items() for part in (f"--{name}", value)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, env=environment
    )
    if process.returncode:
        sys.exit(f"{side} failed:\n{process.stderr}")
    result = json.loads(process.stdout.splitlines()[-1])
    print(
        f"{side}: {result}, {time.perf_counter() - start:.1f} s with the start of the process",
        file=sys.stderr,
    )
    return result


def _base(options: argparse.Namespace) -> dict[str, Any]:
    """Return the cache's fingerprint."""
    data, weights = (read_manifest(folder).fingerprint for folder in (options.dataset, options.weights))
    choice = WeightsChoice(weights["weights"])
    settings = {"precision": resolve_precision("auto"), "input_size": options.input_size}
    return cache_fingerprint(data, backbone="vgg16", weights=choice, **settings)


def _extract(options: argparse.Namespace) -> dict[str, float]:
    from pipeline.features.extract import extract

    folders = {name: str(getattr(options, name)) for name in ("dataset", "weights")}
    request = {**_base(options), "layers": TAPS, "views": ["identity"]}
    (costs,) = extract(request, folder=str(options.folder / "features"), **folders).values()
    return {"seconds": costs["images"] / costs["images_per_second"]}


def _head(options: argparse.Namespace) -> dict[str, float]:
    from pipeline.results.break_even import break_even_of
    from pipeline.runs.result import read_run
    from pipeline.runs.train import train_run

    features = {**_base(options), "layers": TAPS, "views": ["identity"]}
    spec = {
        "scheme": "head",
        "recipe": "linear",
        "row": "linear",
        "settings": {"epochs": options.epochs, "layers": TAPS},
        "seed": 0,
        "precision": "float32",
        "weights": "any",
        "backbone": "vgg16",
        "fingerprint": {"features": features},
        "prefix": None,
    }
    inputs = {"dataset": str(options.dataset), "features": str(options.folder / "features")}
    train_run(spec, inputs, str(options.folder / "run"))
    computed = break_even_of(read_run(options.folder / "run"))
    assert computed is not None
    return {"seconds": computed.head, "page": computed.in_the_loop(1), "extraction": computed.extraction}


def _in_the_loop(options: argparse.Namespace) -> dict[str, float]:
    import keras
    import numpy as np

    from pipeline.backbones.weights import read_weights
    from pipeline.datasets.store import ImageStore
    from pipeline.features.passes import Pass, concurrent_passes
    from pipeline.features.sections import Section

    base, store = _base(options), ImageStore(options.dataset)
    numerics.configure(seed=0, precision=base["precision"], threads=1)
    section = Section(options.folder, base, "identity", tuple(TAPS))
    forward_pass = Pass(section, read_weights(options.weights), image_size=store.image_size)
    images, labels = (values[store.rows("train")] for values in (store.images, store.labels))
    head = keras.Sequential(
        [
            keras.layers.BatchNormalization(center=False, scale=False),
            keras.layers.Dense(len(store.class_names), "softmax"),
        ]
    )
    head.compile("adamw", "sparse_categorical_crossentropy")

    def epoch(count: int) -> None:
        starts = range(0, count, forward_pass.size)
        parts = [slice(start, min(start + forward_pass.size, count)) for start in starts]
        with ThreadPoolExecutor(concurrent_passes()) as pool:
            computed = pool.map(lambda part: forward_pass(images[part], "identity"), parts)
            for part, taps in zip(parts, computed, strict=True):
                head.train_on_batch(np.concatenate(taps, axis=1), labels[part])

    epoch(2 * forward_pass.size)
    start = time.perf_counter()
    epoch(len(images))
    return {"seconds": time.perf_counter() - start}


def _keras(options: argparse.Namespace) -> dict[str, float]:
    import keras

    from pipeline.backbones.model import backbone_features
    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import read_weights
    from pipeline.datasets.store import ImageStore

    store = ImageStore(options.dataset)
    images, labels = (values[store.rows("train")] for values in (store.images, store.labels))
    pixels = keras.Input(images.shape[1:], dtype="uint8")
    arrays = read_weights(options.weights)
    features = backbone_features(BACKBONES["vgg16"], arrays, pixels, options.input_size, TAPS)
    keras.Model(pixels, features).trainable = False
    features = keras.layers.BatchNormalization(center=False, scale=False)(features)
    probabilities = keras.layers.Dense(len(store.class_names), activation="softmax")(features)
    model = keras.Model(pixels, probabilities)
    model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[: 4 * BATCH], labels[: 4 * BATCH], batch_size=BATCH, verbose=0)
    start = time.perf_counter()
    model.fit(images, labels, batch_size=BATCH, verbose=0)
    return {"seconds": time.perf_counter() - start}


SIDES = {"extract": _extract, "head": _head, "in-the-loop": _in_the_loop, "keras": _keras}


def _summary(results: dict[str, dict[str, float]], options: argparse.Namespace) -> str:
    from pipeline import machine

    extraction, head, epoch, keras_epoch = (results[side]["seconds"] for side in SIDES)
    measured, computed = options.epochs * epoch + head, results["head"]["page"]
    facts, versions = machine.describe(), machine.versions()
    return (
        f"Extraction at {options.input_size} px {extraction:.1f} s, a linear head {head:.1f} s.\n"
        f"With the frozen network in the loop, an epoch takes {epoch:.1f} s and a head of "
        f"{options.epochs} epochs {measured:.0f} s; the page computes {computed:.0f} s from stored costs, "
        f"{computed / measured:.2f} times as much.\n"
        f"Keras fit in float32: {keras_epoch:.1f} s an epoch, {options.epochs * keras_epoch:.0f} s a head.\n"
        f"{facts['processor']}, {facts['cores']} cores, "
        f"tensorflow {versions['tensorflow']}, keras {versions['keras']}."
    )


if __name__ == "__main__":
    sys.exit(main())
