"""After how many heads the cache of features has paid for itself.

    python benchmarks/break_even.py --dataset FOLDER --weights FOLDER [--epochs 20]

In turn, each in a process of its own, on all images of a prepared data set (a folder below
data/datasets) with kept weights (below data/raw/weights):

- extract: all five taps of VGG16 into a fresh cache;
- head: one run of the recipe head:linear from that cache, model, predictions and costs written;
- in-the-loop: Keras `fit` of the same linear head for one epoch of the training images, the frozen network in
  front of it at every step, float32, batches of 256: what has to be done where nothing is cached.

Prints the seconds of each process (in-the-loop: of the epoch alone) and the break-even.
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
    """Run all sides in turn and print the break-even."""
    options = _options()
    if options.side:
        print(json.dumps(SIDES[options.side](options)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        seconds = {side: _in_process(side, Path(folder), options) for side in SIDES}
    print(_words(seconds, options.epochs))
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
    places = ["--dataset", options.dataset, "--weights", options.weights, "--folder", folder]
    command = [sys.executable, __file__, "--side", side, "--epochs", str(options.epochs), *map(str, places)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    seconds = json.loads(done.stdout.splitlines()[-1]) or time.perf_counter() - began
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
    places = {name: str(getattr(options, name)) for name in ("dataset", "weights")}
    extract(base, TAPS, ["identity"], folder=str(options.folder / "features"), **places)


def _head(options: argparse.Namespace) -> None:
    from pipeline.runs.train import train_run

    order = {
        "scheme": "head:linear",
        "settings": {"epochs": options.epochs, "layers": TAPS},
        "seed": 0,
        "precision": "float32",
        "weights": "any",
        "backbone": "vgg16",
        "fingerprint": {"features": {"layers": TAPS, "views": ["identity"], "input_size": 32}},
    }
    places = {"features": str(options.folder / "features"), "folder": str(options.folder / "run")}
    train_run(order, dataset=str(options.dataset), **places)


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
    seen = keras.layers.Concatenate()([pool()(network.get_layer(tap).output) for tap in TAPS])
    seen = keras.layers.BatchNormalization(center=False, scale=False)(seen)
    answers = keras.layers.Dense(len(store.class_names), activation="softmax")(seen)
    model = keras.Model(network.input, answers)
    model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[: 4 * BATCH], labels[: 4 * BATCH], batch_size=BATCH, verbose=0)
    began = time.perf_counter()
    model.fit(images, labels, batch_size=BATCH, verbose=0)
    return time.perf_counter() - began


SIDES = {"extract": _extract, "head": _head, "in-the-loop": _in_the_loop}


def _words(seconds: dict[str, float], epochs: int) -> str:
    from pipeline import machine

    extract, head, epoch = (seconds[side] for side in SIDES)
    heads = math.ceil(extract / (epochs * epoch - head)) if epochs * epoch > head else None
    when = f"after {heads} head{'s' if heads != 1 else ''}" if heads else "never"
    facts, versions = machine.describe(), machine.versions()
    return (
        f"Extraction {extract:.1f} s, one linear head from the cache {head:.1f} s; one epoch of that head "
        f"with the frozen network in the loop {epoch:.1f} s, {epochs} epochs {epochs * epoch:.0f} s.\n"
        f"With heads of {epochs} epochs the cache has paid for itself {when}; "
        f"in the first, that is in epoch {math.ceil((extract + head) / epoch)} of training without a cache.\n"
        f"{facts['processor']}, {facts['cores']} cores, "
        f"tensorflow {versions['tensorflow']}, keras {versions['keras']}."
    )


if __name__ == "__main__":
    sys.exit(main())
