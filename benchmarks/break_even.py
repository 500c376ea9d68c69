"""The number of heads after which the feature cache pays off.

    python benchmarks/break_even.py --dataset FOLDER --weights FOLDER [--epochs 20]

Runs these sides one after another, each in its own process, on all images of a prepared data set (a folder
in data/datasets) with downloaded weights (a folder in data/raw/weights):

- extract: all five taps of VGG16 into an empty cache;
- head: one run of the recipe head:linear from that cache, including writing model, predictions and costs;
- in-the-loop: Keras `fit` of the same linear head for one epoch of the training images with the frozen
  network in every step, float32, batches of 256: training without a cache.

Prints the seconds of each process (in-the-loop: of the epoch only) and the break-even.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TAPS = [f"block{block}_pool" for block in range(1, 6)]
BATCH = 256


def main() -> int:
    """Run all sides and print the break-even."""
    options = _options()
    if options.side:
        print(json.dumps(SIDES[options.side](options)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        seconds = {side: _in_process(side, Path(folder), options) for side in SIDES}
    print(_summary(seconds, options.epochs))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="such as data/datasets/cifar10-...")
    parser.add_argument("--weights", type=Path, required=True, help="such as data/raw/weights/vgg16-hed-...")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a head (default: 20)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_process(side: str, folder: Path, options: argparse.Namespace) -> float:
    folders = ["--dataset", options.dataset, "--weights", options.weights, "--folder", folder]
    command = [sys.executable, __file__, "--side", side, "--epochs", str(options.epochs), *map(str, folders)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    start = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        sys.exit(f"{side} failed:\n{process.stderr}")
    seconds = json.loads(process.stdout.splitlines()[-1]) or time.perf_counter() - start
    print(f"{side}: {seconds:.1f} s", file=sys.stderr)
    return seconds


def _extract(options: argparse.Namespace) -> None:
    from pipeline.backbones.table import choose_weights
    from pipeline.features.extract import extract
    from pipeline.features.sections import cache_fingerprint
    from pipeline.machine import resolve_precision
    from pipeline.storage.publishing import read_manifest

    data, weights = read_manifest(options.dataset).fingerprint, choose_weights("random", "vgg16")
    base = cache_fingerprint(data, backbone="vgg16", weights=weights, precision=resolve_precision("auto"))
    folders = {name: str(getattr(options, name)) for name in ("dataset", "weights")}
    extract(base, TAPS, ["identity"], folder=str(options.folder / "features"), **folders)


def _head(options: argparse.Namespace) -> None:
    from pipeline.runs.train import train_run

    spec = {
        "scheme": "head",
        "recipe": "linear",
        "row": "linear",
        "settings": {"epochs": options.epochs, "layers": TAPS},
        "seed": 0,
        "precision": "float32",
        "weights": "any",
        "backbone": "vgg16",
        "fingerprint": {"features": {"layers": TAPS, "views": ["identity"], "input_size": 32}},
        "prefix": None,
    }
    inputs = {"dataset": str(options.dataset), "features": str(options.folder / "features")}
    train_run(spec, inputs, str(options.folder / "run"))


def _in_the_loop(options: argparse.Namespace) -> float:
    import keras

    from pipeline.backbones.model import build_backbone
    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import read_weights
    from pipeline.datasets.store import ImageStore

    store = ImageStore(options.dataset)
    images, labels = (values[store.rows("train")] for values in (store.images(), store.labels))
    network = build_backbone(BACKBONES["vgg16"], read_weights(options.weights), input_size=images.shape[1])
    network.trainable = False
    pool = keras.layers.GlobalAveragePooling2D
    features = keras.layers.Concatenate()([pool()(network.get_layer(tap).output) for tap in TAPS])
    features = keras.layers.BatchNormalization(center=False, scale=False)(features)
    probabilities = keras.layers.Dense(len(store.class_names), activation="softmax")(features)
    model = keras.Model(network.input, probabilities)
    model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[: 4 * BATCH], labels[: 4 * BATCH], batch_size=BATCH, verbose=0)
    start = time.perf_counter()
    model.fit(images, labels, batch_size=BATCH, verbose=0)
    return time.perf_counter() - start


SIDES = {"extract": _extract, "head": _head, "in-the-loop": _in_the_loop}


def _summary(seconds: dict[str, float], epochs: int) -> str:
    from pipeline import machine

    extract, head, epoch = (seconds[side] for side in SIDES)
    heads = math.ceil(extract / (epochs * epoch - head)) if epochs * epoch > head else None
    result = f"pays off after {heads} head{'s' if heads != 1 else ''}" if heads else "never pays off"
    facts, versions = machine.describe(), machine.versions()
    return (
        f"Extraction {extract:.1f} s, one linear head from the cache {head:.1f} s; one epoch of that head "
        f"with the frozen network in the loop {epoch:.1f} s, {epochs} epochs {epochs * epoch:.0f} s.\n"
        f"With heads of {epochs} epochs the cache {result}; extraction and the first head take "
        f"as long as {math.ceil((extract + head) / epoch)} epochs of training without a cache.\n"
        f"{facts['processor']}, {facts['cores']} cores, "
        f"tensorflow {versions['tensorflow']}, keras {versions['keras']}."
    )


if __name__ == "__main__":
    sys.exit(main())
