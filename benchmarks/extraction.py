"""Feature extraction compared with other ways to run VGG16, on the same images.

    python benchmarks/extraction.py [--input-size 32] [--images N] [--rounds N] [--sides NAME,...]
                                    [--dataset FOLDER --weights FOLDER]

All sides run VGG16 on the same uint8 images and return the five taps averaged over space. They run one after
another, each in its own process. Images and weights come from a prepared data set and downloaded weights
(folders in data/datasets and data/raw/weights), or are random with a fixed seed. At another input size the
first three get images that are enlarged already; headstart enlarges them itself. ONEDNN_MAX_CPU_ISA may
stand for another processor and is named in the table.

- predict-32, predict-256: Keras's model.predict in float32, in batches of 32 (its default) or 256, with its
  output written to one HDF5 file with h5py: the usual approach;
- torch-bf16, openvino-bf16: PyTorch (channels_last) and OpenVINO in bfloat16, nothing written; only if
  they are installed (the extra `bench`);
- forward: this project's forward passes only, on images in memory;
- headstart: this project's extraction: reading, forward passes, checking, hashing, writing;
- headstart-openvino, headstart-torch: the same with another engine;
- headstart-float32: the same in float32, for machines without bfloat16.

The steady rate excludes the first batch; for headstart it is the rate of its shards. The rate of
model.predict ends at its last batch: TensorFlow 2.21 can wait up to five seconds before the call returns
(the destructor of its data iterator joins a sleeping thread). The whole job is the process from start to
end, including that wait. Prints a Markdown table: medians over the rounds, lowest and highest.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TAPS = [f"block{block}_pool" for block in range(1, 6)]
TITLES = {
    "predict-32": "`model.predict` and h5py, float32, batches of 32 (the default)",
    "predict-256": "`model.predict` and h5py, float32, batches of 256",
    "torch-bf16": "PyTorch, bfloat16, channels_last, batches of 256",
    "openvino-bf16": "OpenVINO, bfloat16, batches of 64",
    "forward": "Headstart's forward passes only, {precision}",
    "headstart": "Headstart, {precision}, shards written",
    "headstart-openvino": "Headstart, engine openvino, bfloat16, shards written",
    "headstart-torch": "Headstart, engine torch, bfloat16, shards written",
    "headstart-float32": "Headstart, float32, shards written",
}
PACKAGES = {"torch-bf16": "torch", "openvino-bf16": "openvino"}
PACKAGES |= {"headstart-openvino": "openvino", "headstart-torch": "torch"}
DEFAULT_SIDES = "predict-32,predict-256,torch-bf16,openvino-bf16,forward,headstart,headstart-openvino"
PREDICT_FILE = "predict.h5"
LIMIT = 1800  # seconds for one process
PRECISIONS = ("float32", "bfloat16")


def main() -> int:
    """Run all sides and print the table."""
    options = _options()
    if options.side:
        print(json.dumps({"rate": SIDES[options.side](Path(options.folder), options.input_size)}))
        return 0
    sides = [side for side in options.sides.split(",") if _is_available(side)]
    with tempfile.TemporaryDirectory() as folder:
        options.images = options.images or max(512, 12_000 * 32**2 // options.input_size**2)
        source = _prepare(Path(folder), options)
        before = _matmul_rates()
        results: dict[str, list[dict]] = {side: [] for side in sides}
        for number in range(options.rounds):
            for side in sides:
                results[side].append(_in_process(side, folder, options.input_size))
                last = results[side][-1]
                text = f"{last['rate']:.1f} images/s steady, {last['seconds']:.1f} s total"
                print(f"round {number + 1}: {side}: {text}", file=sys.stderr)
        print(_table(results, f"{options.input_size} px, {options.images:,} {source}", before))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input-size", type=int, default=32, help="pixels per side (default: 32)")
    parser.add_argument("--images", type=int, help="images in each round (default: by size, 12,000 at 32 px)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all sides (default: 3)")
    parser.add_argument("--sides", default=DEFAULT_SIDES, help=f"some of {','.join(TITLES)}")
    parser.add_argument("--dataset", type=Path, help="prepared data set, such as data/datasets/cifar10-...")
    parser.add_argument("--weights", type=Path, help="weights, such as data/raw/weights/vgg16-imagenet-...")
    parser.add_argument("--side", choices=TITLES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _is_available(side: str) -> bool:
    if side not in TITLES:
        sys.exit(f"--sides: expected some of {', '.join(TITLES)}, received {side!r}")
    package = PACKAGES.get(side)
    if package and importlib.util.find_spec(package) is None:
        print(f"{side}: skipped, {package} is not installed (pip install -e .[bench])", file=sys.stderr)
        return False
    return True


def _prepare(folder: Path, options: argparse.Namespace) -> str:
    """Write images as a prepared data set, and weights; return a description of both."""
    import numpy as np

    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import publish_weights, random_arrays, read_weights
    from pipeline.datasets.images import ImageWriter
    from pipeline.datasets.store import DATASET_FILE, IMAGES_FILE, ImageStore
    from pipeline.storage import hdf5
    from pipeline.storage.publishing import publish_manifest

    generator, count = np.random.Generator(np.random.PCG64(0)), options.images
    if options.dataset:
        images = ImageStore(options.dataset).images
        images = np.resize(images, (count, *images.shape[1:]))  # repeated if more are requested
    else:
        images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    (folder / "dataset").mkdir()
    with hdf5.created(folder / "dataset" / DATASET_FILE) as file:
        hdf5.write_array(file, "labels", np.zeros(count, np.int64))
        hdf5.write_array(file, "index", np.arange(count))
        hdf5.write_array(file, "split", np.zeros(count, np.uint8))
        hdf5.write_texts(file, "names", [f"{number}.png" for number in range(count)])
    with ImageWriter(folder / "dataset" / IMAGES_FILE, images.shape[1]) as writer:
        writer.add(images)
    facts = {"class_names": ["any"], "counts": {"train": count, "val": 0, "test": 0}}
    fingerprint = {"name": "cifar10", "image_size": images.shape[1]}
    publish_manifest(folder / "dataset", fingerprint, [DATASET_FILE, IMAGES_FILE], facts)
    arrays = read_weights(options.weights) if options.weights else random_arrays(BACKBONES["vgg16"], seed=0)
    publish_weights(folder / "weights", {"backbone": "vgg16"}, arrays, {})
    names = [
        path.name.rpartition("-")[0] if path else "random" for path in (options.dataset, options.weights)
    ]
    return f"images ({names[0]}), weights {names[1]}"


def _in_process(side: str, folder: str, size: int) -> dict:
    """Return the steady rate that a side reports, and the seconds of its process."""
    command = [sys.executable, __file__, "--side", side, "--folder", folder]
    command += ["--input-size", str(size)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    start = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT)
    if process.returncode:
        sys.exit(f"{side} failed:\n{process.stderr}")
    return {**json.loads(process.stdout.splitlines()[-1]), "seconds": time.perf_counter() - start}


def _base(size: int, precision: str = "auto", engine: str = "tensorflow") -> dict:
    from pipeline.backbones.table import choose_weights
    from pipeline.features.sections import cache_fingerprint
    from pipeline.machine import resolve_precision

    weights = choose_weights("random", "vgg16")
    options = {"precision": resolve_precision(precision), "input_size": size, "engine": engine}
    return cache_fingerprint({"image_size": 32}, backbone="vgg16", weights=weights, **options)


def _headstart(folder: Path, size: int, **options: str) -> float:
    from pipeline.features.extract import extract

    with tempfile.TemporaryDirectory(dir=folder) as target:
        folders = {"dataset": str(folder / "dataset"), "weights": str(folder / "weights"), "folder": target}
        (costs,) = extract(_base(size, **options), TAPS, ["identity"], **folders).values()
    return costs["images_per_second"]


def _forward(folder: Path, size: int) -> float:
    from concurrent.futures import ThreadPoolExecutor

    from pipeline import numerics
    from pipeline.backbones.weights import read_weights
    from pipeline.features.passes import Pass
    from pipeline.features.sections import Section

    base = _base(size)
    numerics.configure(seed=0, precision=base["precision"], threads=1)
    one_pass = Pass(
        Section(folder, base, "identity", tuple(TAPS)), read_weights(folder / "weights"), image_size=size
    )
    images = _images(folder, size)
    starts = range(0, len(images), one_pass.size)
    with ThreadPoolExecutor(one_pass.at_once) as pool:

        def run():
            list(pool.map(lambda start: one_pass(images[start : start + one_pass.size], "identity"), starts))

        return _steady(lambda: None, run, len(images))


def _images(folder: Path, size: int):
    """Return the images, enlarged by repeating pixels."""
    import numpy as np

    from pipeline.datasets.store import ImageStore

    rows = np.arange(size) * 32 // size
    return np.ascontiguousarray(ImageStore(folder / "dataset").images[:, rows[:, None], rows])


def _steady(warm_up: Callable, run: Callable, count: int) -> float:
    warm_up()
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def _predict(folder: Path, size: int, batch: int) -> float:
    import h5py
    import keras

    from pipeline.backbones.model import build_backbone
    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import read_weights

    network = build_backbone(BACKBONES["vgg16"], read_weights(folder / "weights"), input_size=size)
    taps = [network.get_layer(name).output for name in TAPS]
    model = keras.Model(network.input, [keras.layers.GlobalAveragePooling2D()(tap) for tap in taps])
    images, ended = _images(folder, size), []
    watch = keras.callbacks.LambdaCallback(on_predict_end=lambda logs: ended.append(time.perf_counter()))
    model.predict(images[:batch], batch_size=batch, verbose=0)
    start = time.perf_counter()
    features = model.predict(images, batch_size=batch, verbose=0, callbacks=[watch])
    with h5py.File(folder / PREDICT_FILE, "w") as file:
        for name, values in zip(TAPS, features, strict=True):
            file.create_dataset(name, data=values)
    return len(images) / (ended[-1] - start)


def _torch_network(folder: Path):
    """Return VGG16 as a PyTorch module from centered BGR pixels (B, 3, 32, 32) to taps, and the means."""
    import torch

    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import read_weights

    arrays, row = read_weights(folder / "weights"), BACKBONES["vgg16"]

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList()
            for number, count in enumerate((len(block.convolutions) for block in row.blocks), start=1):
                pairs = [arrays[f"block{number}_conv{conv}"] for conv in range(1, count + 1)]
                steps = [step for pair in pairs for step in (self.conv(*pair), torch.nn.ReLU(inplace=True))]
                self.blocks.append(torch.nn.Sequential(*steps, torch.nn.MaxPool2d(2)))

        @staticmethod
        def conv(kernel, bias):
            layer = torch.nn.Conv2d(*kernel.shape[2:], 3, padding=1)
            layer.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
            layer.bias.data = torch.from_numpy(bias.copy())
            return layer

        def forward(self, x):
            outputs = []
            for block in self.blocks:
                x = block(x)
                outputs.append(x.float().mean(dim=(2, 3)))
            return outputs

    return Network().eval(), torch.tensor(row.subtract)


def _torch(folder: Path, size: int) -> float:
    import torch

    network, means = _torch_network(folder)
    network = network.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    images, batch = _images(folder, size), max(4, 256 * 32**2 // size**2)

    @torch.inference_mode()
    def run(pixels):
        for start in range(0, len(pixels), batch):
            x = (torch.from_numpy(pixels[start : start + batch]).float() - means).flip(-1)
            x = x.permute(0, 3, 1, 2).to(dtype=torch.bfloat16, memory_format=torch.channels_last)
            [values.numpy() for values in network(x)]

    return _steady(lambda: run(images[: 2 * batch]), lambda: run(images), len(images))


def _openvino(folder: Path, size: int) -> float:
    import openvino
    import torch
    from openvino.preprocess import ColorFormat, PrePostProcessor

    network, means = _torch_network(folder)
    graph = openvino.convert_model(network, example_input=torch.zeros(1, 3, size, size))
    graph.reshape([-1, 3, size, size])
    processor = PrePostProcessor(graph)
    tensor = processor.input().tensor()
    tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    tensor.set_color_format(ColorFormat.RGB)
    processor.input().model().set_layout(openvino.Layout("NCHW"))
    steps = processor.input().preprocess().convert_element_type(openvino.Type.f32)
    steps.convert_color(ColorFormat.BGR).mean(means.flip(0).tolist())
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = openvino.compile_model(processor.build(), "CPU", settings)
    count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    requests = [compiled.create_infer_request() for _ in range(count)]
    images, batch = _images(folder, size), max(1, 64 * 32**2 // size**2)

    def finish(request):
        request.wait()
        return [request.get_output_tensor(number).data.copy() for number in range(len(TAPS))]

    def run(pixels):
        running = []
        for number, start in enumerate(range(0, len(pixels), batch)):
            if len(running) == count:
                finish(running.pop(0))
            running.append(requests[number % count])
            running[-1].start_async({0: pixels[start : start + batch]})
        for request in running:
            finish(request)

    return _steady(lambda: run(images[: 4 * batch]), lambda: run(images), len(images))


SIDES: dict[str, Callable[[Path, int], float]] = {
    "predict-32": lambda folder, size: _predict(folder, size, 32),
    "predict-256": lambda folder, size: _predict(folder, size, 256),
    "torch-bf16": _torch,
    "openvino-bf16": _openvino,
    "forward": _forward,
    "headstart": _headstart,
    "headstart-openvino": lambda folder, size: _headstart(folder, size, engine="openvino"),
    "headstart-torch": lambda folder, size: _headstart(folder, size, engine="torch"),
    "headstart-float32": lambda folder, size: _headstart(folder, size, precision="float32"),
}


def _matmul_rate(dtype: str, size: int = 4096, repeats: int = 8) -> float:
    """Return the rate of TensorFlow's matrix multiplication in GFLOP/s, a reference for the machine."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.normal((size, size), seed=seed), dtype) for seed in (0, 1))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)[:1]))
    product()
    start = time.perf_counter()
    for _ in range(repeats):
        product().numpy()
    return 2 * size**3 * repeats / (time.perf_counter() - start) / 1e9


def _matmul_rates() -> str:
    """Return the machine's matrix rate in both precisions, measured in a child process."""
    code = "import extraction as e; print(*(f'{d} {e._matmul_rate(d):.0f}' for d in e.PRECISIONS), sep=', ')"
    command, folder = [sys.executable, "-c", code], Path(__file__).parent
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=True)
    return process.stdout.splitlines()[-1]


def _table(results: dict[str, list[dict]], source: str, before: str) -> str:
    from pipeline import machine

    base = results.get("predict-32") or next(iter(results.values()))
    lines = [
        "| side | images/s, steady | lowest … highest | ratio | whole job, s | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for side, rounds in results.items():
        title = TITLES[side].format(precision=machine.resolve_precision("auto"))
        rates, seconds = [row["rate"] for row in rounds], [row["seconds"] for row in rounds]
        ratio = statistics.median(rates) / statistics.median(row["rate"] for row in base)
        total_ratio = statistics.median(row["seconds"] for row in base) / statistics.median(seconds)
        span = f"{min(rates):.1f} … {max(rates):.1f}"
        lines.append(
            f"| {title} | {statistics.median(rates):.1f} | {span} | {ratio:.2f} "
            f"| {statistics.median(seconds):.1f} | {total_ratio:.2f} |"
        )
    facts, rounds = machine.describe(), len(next(iter(results.values())))
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA")
    processor = facts["processor"] + (f" as {isa}" if isa else "")
    lines.append(
        f"\nVGG16 at {source}, {rounds} rounds, {processor}, {facts['cores']} cores; matrix multiplication "
        f"of 4096 x 4096, GFLOP/s: {before} before, {_matmul_rates()} after. {_versions(results)}."
    )
    return "\n".join(lines)


def _versions(results: dict) -> str:
    import importlib.metadata

    packages = ["tensorflow", "keras", *(PACKAGES[side] for side in results if side in PACKAGES)]
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


if __name__ == "__main__":
    sys.exit(main())
