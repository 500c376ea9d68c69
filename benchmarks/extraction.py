"""Feature extraction of this project against Keras's model.predict, in one run on the same images.

    python benchmarks/extraction.py [--images N] [--sample N] [--rounds N] [--dataset FOLDER --weights FOLDER]

Both sides run VGG16 at 32 px on the same uint8 images, return the five pooled taps averaged over space, and
run in processes of their own, in turn. Images and weights are those of a prepared data set and of kept
weights (folders below data/datasets and data/raw/weights), or seeded random ones. model.predict computes in
float32 as it comes, with batches of 32 (its default) and of 256, on the first --sample images. The project
extracts all of them; its rate is that of whole shards: reading, forward pass, checking, handing over to the
writer, the first batch included.
Prints a Markdown table of images a second (median, lowest and highest over the rounds) and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDES = ("predict 32", "predict 256", "headstart")
FINGERPRINT = {
    "backbone": "vgg16",
    "layers": [f"block{block}_pool" for block in range(1, 6)],
    "pooling": "average",
    "input_size": 32,
}


def main() -> int:
    """Run all sides in turn and print the table."""
    options = _options()
    if options.side:
        print(json.dumps(_measure(options.side, Path(options.folder), options.sample)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        source = _prepare(Path(folder), options)
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        for number in range(options.rounds):
            for side in SIDES:
                rates[side].append(_in_process(side, folder, options.sample))
                print(f"round {number + 1}: {side}: {rates[side][-1]:.0f} images/s", file=sys.stderr)
    print(_table(rates, f"{options.images:,} {source}"))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6000, help="images in each round (default: 6000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all sides in turn (default: 3)")
    parser.add_argument("--sample", type=int, default=6000, help="of them for model.predict (default: 6000)")
    parser.add_argument("--dataset", type=Path, help="a prepared data set, such as data/datasets/cifar10-...")
    parser.add_argument("--weights", type=Path, help="kept weights, such as data/raw/weights/vgg16-hed-...")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(folder: Path, options: argparse.Namespace) -> str:
    """Write images as a prepared data set, and weights; return in words what they are."""
    import numpy as np

    from pipeline import hdf5
    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import publish_weights, random_arrays, read_weights
    from pipeline.datasets.store import FILE, ImageStore
    from pipeline.publishing import publish_manifest

    generator, count = np.random.Generator(np.random.PCG64(0)), options.images
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    if options.dataset:
        images = ImageStore(options.dataset).images(0, count)
    (folder / "dataset").mkdir()
    with hdf5.created(folder / "dataset" / FILE) as file:
        hdf5.write_array(file, "images", images)
        hdf5.write_array(file, "labels", np.zeros(count, np.int64))
        hdf5.write_array(file, "index", np.arange(count))
        hdf5.write_array(file, "split", np.zeros(count, np.uint8))
        hdf5.write_texts(file, "names", [f"{number}.png" for number in range(count)])
    facts = {"class_names": ["any"], "counts": {"train": count, "val": 0, "test": 0}}
    publish_manifest(folder / "dataset", {"name": "cifar10"}, [FILE], facts)
    arrays = read_weights(options.weights) if options.weights else random_arrays(BACKBONES["vgg16"], seed=0)
    publish_weights(folder / "weights", {"backbone": "vgg16"}, arrays, {})
    names = [
        path.name.rpartition("-")[0] if path else "random" for path in (options.dataset, options.weights)
    ]
    return f"images ({names[0]}), weights {names[1]}"


def _in_process(side: str, folder: str, sample: int) -> float:
    command = [sys.executable, __file__, "--side", side, "--folder", folder, "--sample", str(sample)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(side: str, folder: Path, sample: int) -> float:
    return _headstart(folder) if side == "headstart" else _predict(folder, int(side.split()[1]), sample)


def _headstart(folder: Path) -> float:
    from pipeline.features.extract import extract
    from pipeline.machine import resolve_precision

    fingerprint = {**FINGERPRINT, "precision": resolve_precision("auto")}
    with tempfile.TemporaryDirectory(dir=folder) as target:
        costs = extract(fingerprint, str(folder / "dataset"), str(folder / "weights"), target)
    return costs["images_per_second"]


def _predict(folder: Path, batch: int, sample: int) -> float:
    """Return the rate of model.predict on images in memory; the first batch, which builds, is not counted."""
    import keras

    from pipeline.backbones.model import build_backbone
    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import read_weights
    from pipeline.datasets.store import ImageStore

    network = build_backbone(BACKBONES["vgg16"], read_weights(folder / "weights"), input_size=32)
    taps = [network.get_layer(name).output for name in FINGERPRINT["layers"]]
    model = keras.Model(network.input, [keras.layers.GlobalAveragePooling2D()(tap) for tap in taps])
    images = ImageStore(folder / "dataset").images(0, sample)
    model.predict(images[:batch], batch_size=batch, verbose=0)
    began = time.perf_counter()
    model.predict(images, batch_size=batch, verbose=0)
    return len(images) / (time.perf_counter() - began)


def _table(rates: dict[str, list[float]], what: str) -> str:
    from pipeline import machine

    named = {
        "predict 32": "`model.predict`, float32, batches of 32 (the default)",
        "predict 256": "`model.predict`, float32, batches of 256",
        "headstart": f"Headstart, {machine.resolve_precision('auto')}, shards written",
    }
    base = statistics.median(rates["predict 32"])
    lines = ["| how | images/s, median | lowest … highest | ratio |", "|---|---:|---:|---:|"]
    for side, found in rates.items():
        middle = statistics.median(found)
        span = f"{min(found):.0f} … {max(found):.0f}"
        lines.append(f"| {named[side]} | {middle:.0f} | {span} | {middle / base:.2f} |")
    facts = machine.describe()
    found = machine.versions()
    lines.append(
        f"\nVGG16 at 32 px, {what}, {len(rates['headstart'])} rounds in turn, {facts['processor']}, "
        f"{facts['cores']} cores, TensorFlow {found['tensorflow']}, "
        f"Keras {found['keras']}."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
