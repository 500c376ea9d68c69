"""Time and memory of extraction by the number of images.

    python benchmarks/scale.py [--images 6000,60000,600000] [--input-size 32]
                               [--dataset FOLDER --weights FOLDER]

Extracts all five taps of VGG16 from each number of images (a data set's, repeated, or random with a
fixed seed), each in its own process, and prints a Markdown table: seconds from process start to the published
manifest, steady rate, peak resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import extraction


def main() -> int:
    """Extract each number of images and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="6000,60000,600000", help="comma-separated numbers of images")
    parser.add_argument("--input-size", type=int, default=32, help="pixels per side (default: 32)")
    parser.add_argument("--dataset", type=Path, help="prepared data set, such as data/datasets/cifar10-...")
    parser.add_argument("--weights", type=Path, help="weights, such as data/raw/weights/vgg16-imagenet-...")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(_measure(Path(options.folder), options.input_size)))
        return 0
    print("| images | whole job, s | relative to the row above | images/s, steady | peak memory, MB |")
    print("|---:|---:|---:|---:|---:|")
    previous = None
    for count in map(int, options.images.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            extraction._prepare(Path(folder), count, options.dataset, options.weights)
            start = time.perf_counter()
            row = _in_process(folder, options.input_size)
            seconds = time.perf_counter() - start
        growth = f"{seconds / previous:.2f}" if previous else ""
        rate, memory = f"{row['rate']:.0f}", f"{row['memory']:.0f}"
        print(f"| {count:,} | {seconds:.1f} | {growth} | {rate} | {memory} |", flush=True)
        previous = seconds
    return 0


def _in_process(folder: str, size: int) -> dict:
    command = [sys.executable, __file__, "--folder", folder, "--input-size", str(size)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        sys.exit(process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def _measure(folder: Path, size: int) -> dict:
    from pipeline.machine import peak_memory_mb

    rate = extraction._headstart(folder, size)()
    return {"rate": rate, "memory": peak_memory_mb()}


if __name__ == "__main__":
    sys.exit(main())
