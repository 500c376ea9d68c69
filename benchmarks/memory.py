"""Memory of training from pictures and from cached maps, and what reading maps from files costs.

    python benchmarks/memory.py maps [--gigabytes 2,8] [--steps 40]
    python benchmarks/memory.py folder [--pictures 20000] [--data FOLDER]

maps: trains block 5 and a top on maps of block4_pool at 128 px (8 x 8 x 512, float16, random values) that are
written in shards as the cache has them, from the mapped files and, up to 4 GB, from an array in memory; sides
in turn, each in its own process. folder: makes a folder of pictures of random colors, 240 to 480 pixels wide,
and fine-tunes block 5 at 224 px from it, through the graph. Memory is the largest RssAnon of a process:
mapped files are not part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SHAPE, BATCH, SHARD_ROWS = (8, 8, 512), 256, 256
IN_MEMORY_GB = 4  # more is not loaded
POLL_SECONDS = 0.2


def main() -> int:
    """Run one of the two measurements and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("maps", "folder", "side"))
    parser.add_argument("--gigabytes", default="2,8", help="sizes of the maps")
    parser.add_argument("--steps", type=int, default=40, help=f"steps of {BATCH} images that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--data", type=Path, help="folder for pictures and results (default: temporary)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "side":
        print(json.dumps(train_on_maps(options.data, options.side, options.steps)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        (measure_maps if options.what == "maps" else measure_folder)(options, options.data or Path(folder))
    return 0


def measure_maps(options: argparse.Namespace, folder: Path) -> None:
    """Print rate and memory of training on maps of each size."""
    print("| maps | from | images/s, median (range) | RssAnon, largest |")
    print("|---:|---|---:|---:|")
    for size in map(float, options.gigabytes.split(",")):
        target = folder / f"maps-{size:g}"
        write_maps(target, round(size * 1e9 / 65_536))
        sides = ("files", "memory") if size <= IN_MEMORY_GB else ("files",)
        results: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side in sides:
                command = [sys.executable, __file__, "side", "--data", str(target), "--side", side]
                command += ["--steps", str(options.steps)]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                results[side].append(json.loads(output.splitlines()[-1]))
        for side, rows in results.items():
            rates = sorted(row["rate"] for row in rows)
            memory = max(row["memory"] for row in rows)
            text = f"{rates[len(rates) // 2]:.0f} ({rates[0]:.0f}–{rates[-1]:.0f})"
            print(f"| {size:g} GB | {side} | {text} | {memory / 1e9:.2f} GB |", flush=True)


def write_maps(folder: Path, count: int) -> None:
    """Write maps of random values in shards, as the cache stores them."""
    import numpy as np

    from pipeline.storage import hdf5

    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number, start in enumerate(range(0, count, SHARD_ROWS)):
        rows = min(SHARD_ROWS, count - start)
        values = generator.integers(0, 256, (rows, *SHAPE), np.uint8).astype(np.float16) / 64
        with hdf5.created(folder / f"shard-{number:05d}.h5") as file:
            hdf5.write_mappable(file, "maps", values)


def train_on_maps(folder: Path, side: str, steps: int) -> dict[str, float]:
    """Train block 5 and a top for some steps after a warm-up; return images/s and the largest RssAnon."""
    import keras
    import numpy as np

    from pipeline import numerics
    from pipeline.backbones.model import build_backbone
    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import random_arrays
    from pipeline.features.store import MappedRows
    from pipeline.machine import resolve_precision
    from pipeline.networks.build import add_classifier, add_neck
    from pipeline.networks.fast_copy import fast_copy
    from pipeline.schemes.fine_tune import freeze_blocks
    from pipeline.storage import hdf5
    from pipeline.training.classifier import Classifier
    from pipeline.training.examples import Examples
    from pipeline.training.history import History
    from pipeline.training.loop import fit
    from pipeline.training.stage import Stage

    with LargestMemory(os.getpid()) as memory:
        numerics.configure(seed=0, precision=resolve_precision("auto"))
        maps = MappedRows([hdf5.map_array(path, "maps") for path in sorted(folder.glob("*.h5"))])
        inputs = maps[np.arange(len(maps))] if side == "memory" else maps
        row = BACKBONES["vgg16"]
        backbone = build_backbone(row, random_arrays(row, seed=0), input_size=128)
        x = keras.layers.Dense(512, activation="relu")(add_neck(backbone.output, "average"))
        network = fast_copy(keras.Model(backbone.input, add_classifier(x, 10)))
        freeze_blocks(network, row, 4)
        classifier = Classifier(network, network.get_layer("block4_pool").output)
        rows = np.random.default_rng(1).permutation(len(maps))
        options = {
            "batch_size": BATCH,
            "learning_rate": 1e-5,
            "optimizer": "adamw",
            "lr_schedule": "constant",
        }
        options |= {"warmup": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0}
        seconds = 0.0
        for part in (rows[: 4 * BATCH], rows[4 * BATCH : (4 + steps) * BATCH]):
            labels = np.random.default_rng(2).integers(0, 10, len(maps))
            examples = Examples(inputs, labels, part, part[:0], 10)
            history = History()
            fit(classifier, examples, Stage("blocks", epochs=1, **options), seed=0, history=history)
            seconds = history.seconds
    return {"rate": len(part) / seconds, "memory": memory.largest}


def measure_folder(options: argparse.Namespace, folder: Path) -> None:
    """Fine-tune block 5 at 224 px from a folder of pictures; print the memory of each task's processes."""
    pictures = folder / "pictures"
    if not pictures.exists():
        write_pictures(pictures, options.pictures)
    task = ["FineTune", "--dataset", f"folder:{pictures}", "--recipe", "block5", "--weights", "random"]
    task += ["--epochs", "1", "--top-epochs", "1", "--flip", "false", "--test-views", "identity"]
    environment = {**os.environ, "HEADSTART_DATA_DIR": str(folder / "data")}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "luigi", "--module", "tasks", *task], env=environment)
    with LargestMemory(process.pid) as memory:
        process.wait()
    minutes = (time.perf_counter() - start) / 60
    print(f"{options.pictures:,} pictures: exit code {process.returncode}, {minutes:.1f} min in all")
    for command, size in sorted(memory.by_command.items()):
        print(f"{command:>12}  {size / 1e9:.2f} GB")


def write_pictures(folder: Path, count: int) -> None:
    """Write JPEG pictures of ten classes; a class is a color of the background."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(count):
        label = number % 10
        target = folder / f"class{label}" / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        small = generator.integers(0, 256, (12, 12, 3)) * 0.6 + np.array([label, 9 - label, 5]) * 10
        width, height = generator.integers(240, 481, 2)
        picture = Image.fromarray(small.clip(0, 255).astype(np.uint8))
        picture.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(target, quality=85)


class LargestMemory:
    """Samples RssAnon of a process and all below it; largest is in bytes."""

    def __init__(self, pid: int):
        self.by_command: dict[str, int] = {}
        self._pid, self._stop = pid, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def largest(self) -> int:
        """The largest RssAnon of one process."""
        return max(self.by_command.values(), default=0)

    def __enter__(self) -> LargestMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            for pid in (self._pid, *children_of(self._pid)):
                try:
                    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                except OSError:
                    continue
                values = dict(line.split(":", 1) for line in status.splitlines())
                size = int(values.get("RssAnon", "0").split()[0]) * 1024
                self.by_command[str(pid)] = max(size, self.by_command.get(str(pid), 0))


def children_of(pid: int) -> list[int]:
    """Return the processes below a process."""
    try:
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        direct = [int(child) for path in tasks for child in path.read_text(encoding="utf-8").split()]
    except OSError:
        return []
    return [one for child in direct for one in (child, *children_of(child))]


if __name__ == "__main__":
    sys.exit(main())
