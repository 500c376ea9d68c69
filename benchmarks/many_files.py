"""Time and memory of a data set of many small picture files, command by command.

    python benchmarks/many_files.py [--pictures 20000,200000] [--side 32] [--image-size 32] [--weights random]
                                    [--folder FOLDER]

For each number of pictures (JPEG, random colors, ten classes, a file each), runs in turn: prepare the data
set (scan, hash, decode, store), the same command again, extract all five taps of VGG16, train a linear head,
and predict the classes of all pictures. Prints a Markdown table: seconds of each command from process start,
of which the same command with nothing left to do takes the second row, the largest RssAnon of a process, and
how many files and bytes the data folder has afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import LargestMemory
from PIL import Image

PER_FOLDER = 5_000  # files


def main() -> int:
    """Run the commands for each number of pictures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", default="20000,200000", help="comma-separated numbers of pictures")
    parser.add_argument("--side", type=int, default=32, help="pixels per side of a picture (default: 32)")
    parser.add_argument("--image-size", type=int, default=32, help="pixels of prepared images (default: 32)")
    parser.add_argument("--weights", default="random", help="weights (default: random)")
    parser.add_argument("--folder", type=Path, help="folder for pictures and results (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print("| pictures | command | seconds | RssAnon, largest | files | GB |")
        print("|---:|---|---:|---:|---:|---:|", flush=True)
        for count in map(int, options.pictures.split(",")):
            measure(Path(folder) / str(count), count, options)
            shutil.rmtree(Path(folder) / str(count))
    return 0


def measure(folder: Path, count: int, options: argparse.Namespace) -> None:
    """Run the commands on a number of pictures and print a row for each."""
    pictures, data = folder / "pictures", folder / "data"
    write_pictures(pictures, count, options.side)
    dataset = ["--dataset", f"folder:{pictures}", "--image-size", str(options.image_size)]
    network = [*dataset, "--weights", options.weights]
    luigi = [sys.executable, "-m", "luigi", "--local-scheduler", "--module", "tasks"]
    headstart = [str(Path(sys.executable).with_name("headstart"))]
    steps = {
        "prepare": [*luigi, "PrepareDataset", *dataset],
        "prepare, again": [*luigi, "PrepareDataset", *dataset],
        "extract": [*luigi, "ExtractFeatures", *network],
        "train a linear head": [*headstart, "train", "head", "--recipe", "linear", *network],
        "train a linear head, again": [*headstart, "train", "head", "--recipe", "linear", *network],
        "predict": [*headstart, "predict", "head-linear", str(pictures), "--output", str(folder / "p.csv")],
    }
    for name, command in steps.items():
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, "HEADSTART_DATA_DIR": str(data)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with LargestMemory(process.pid) as memory:
            _, errors = process.communicate()
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(f"{name} failed:\n{errors}")
        files = [path for path in data.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e9
        row = [f"{count:,}", name, f"{seconds:.1f}", f"{memory.largest / 1e9:.2f} GB", len(files)]
        print(f"| {' | '.join(map(str, row))} | {size:.2f} |", flush=True)


def write_pictures(folder: Path, count: int, side: int) -> None:
    """Write JPEG pictures of ten classes; a class is a color, and no two pictures are equal."""
    generator = np.random.default_rng(0)
    for number in range(count):
        label = number % 10
        target = folder / f"class{label}" / f"{number // (10 * PER_FOLDER):02d}" / f"{number:07d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        small = generator.integers(0, 256, (8, 8, 3)) * 0.6 + np.array([label, 9 - label, 5]) * 10
        picture = Image.fromarray(small.clip(0, 255).astype(np.uint8))
        picture.resize((side, side), Image.Resampling.BICUBIC).save(target, quality=85)


if __name__ == "__main__":
    sys.exit(main())
