"""Feature extraction compared with other ways to run VGG16, on the same images.

    python benchmarks/extraction.py [--input-size 32] [--images N] [--rounds N] [--sides NAME,...]
                                    [--dataset FOLDER --weights FOLDER]
    python benchmarks/extraction.py --check

All sides run VGG16 on the same uint8 images and return the five taps averaged over space. Each has its own
process, and they are measured in turn. Images and weights come from a prepared data set and downloaded
weights (folders in data/datasets and data/raw/weights), or are random with a fixed seed. Headstart enlarges
images of another size itself; the other sides get them enlarged. ONEDNN_MAX_CPU_ISA may stand for another
processor and is named in the table; `auto` is still the precision of this one, so ask for float32 sides.

- predict-32, predict-256: Keras's model.predict in float32, in batches of 32 (its default) or 256, with its
  output written to one HDF5 file with h5py: the usual approach;
- torch-bf16, openvino-bf16: PyTorch (channels_last) and OpenVINO in bfloat16, nothing written; only if
  they are installed (the extra `bench`);
- forward: this project's forward passes only, on images in memory;
- headstart: this project's extraction: reading, forward passes, checking, hashing, writing;
- headstart-amx, headstart-openvino, headstart-torch: the same with another engine;
- headstart-maps: the same with whole maps of all taps in float16 instead of averages;
- headstart-float32: the same in float32, for machines without bfloat16.

The rates exclude the start of a process. The rate of headstart is that of its shards. The rate of
model.predict ends at its last batch: TensorFlow 2.21 can wait up to five seconds before the call returns (the
destructor of its data iterator joins a sleeping thread). Prints a Markdown table: medians over the rounds,
lowest and highest.

--check takes about a minute: at 32 and 128 px it compares forward with predict-32, in turn, and fails if the
median of three ratios is below 0.6 of RATIOS, twice.
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
from collections.abc import Callable, Iterable
from pathlib import Path

Measure = Callable[[], float]  # a steady rate in images/s
TAPS = [f"block{block}_pool" for block in range(1, 6)]
TITLES = {
    "predict-32": "`model.predict` and h5py, float32, batches of 32 (the default)",
    "predict-256": "`model.predict` and h5py, float32, batches of 256",
    "torch-bf16": "PyTorch, bfloat16, channels_last, batches of 256",
    "openvino-bf16": "OpenVINO, bfloat16, batches of 64",
    "forward": "Headstart's forward passes only, {precision}",
    "headstart": "Headstart, {precision}, shards written",
    "headstart-amx": "Headstart, engine tensorflow-amx, {precision}, shards written",
    "headstart-openvino": "Headstart, engine openvino, bfloat16, shards written",
    "headstart-torch": "Headstart, engine torch, bfloat16, shards written",
    "headstart-maps": "Headstart, {precision}, whole maps of all taps in float16 written",
    "headstart-float32": "Headstart, float32, shards written",
}
PACKAGES = {"torch-bf16": "torch", "openvino-bf16": "openvino"}
PACKAGES |= {"headstart-openvino": "openvino", "headstart-torch": "torch"}
DEFAULT_SIDES = "predict-32,predict-256,torch-bf16,openvino-bf16,forward,headstart,headstart-openvino"
# Ratios of forward to predict-32 in docs/benchmarks.md, by precision and input size, for --check.
RATIOS = {"bfloat16": {32: 3.3, 128: 3.4}, "float32": {32: 1.7, 128: 1.7}}
CHECK_IMAGES = {32: 1024, 128: 64}
LOWEST_SHARE, CHECKS = 0.6, 2
PREDICT_FILE = "predict.h5"
READY = "ready"  # the line of a side whose process has started


def main() -> int:
    """Run all sides and print the table."""
    options = _options()
    if options.side:
        from pipeline.machine import peak_memory_mb

        measure = SIDES[options.side](Path(options.folder), options.input_size)
        print(READY, flush=True)
        for _ in sys.stdin:  # one measurement for each line
            print(json.dumps({"rate": measure(), "memory": peak_memory_mb()}), flush=True)
        return 0
    if options.check:
        return _check()
    sides = [side for side in options.sides.split(",") if _is_available(side)]
    with tempfile.TemporaryDirectory() as folder:
        options.images = options.images or max(120, 6_000 * 32**2 // options.input_size**2)
        source = _prepare(Path(folder), options.images, options.dataset, options.weights)
        before = _matmul_rates()
        started = {side: _started(side, folder, options.input_size) for side in sides}
        measured: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(options.rounds):
            for side, process in started.items():
                measured[side].append(_measured(process))
                print(f"round {number + 1}: {side}: {measured[side][-1]}", file=sys.stderr)
        for process in started.values():
            process.communicate()
        print(_table(measured, f"{options.input_size} px, {options.images:,} {source}", before))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input-size", type=int, default=32, help="pixels per side (default: 32)")
    parser.add_argument("--images", type=int, help="images in each round (default: by size, 6,000 at 32 px)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all sides (default: 3)")
    parser.add_argument("--sides", default=DEFAULT_SIDES, help=f"some of {','.join(TITLES)}")
    parser.add_argument("--dataset", type=Path, help="prepared data set, such as data/datasets/cifar10-...")
    parser.add_argument("--weights", type=Path, help="weights, such as data/raw/weights/vgg16-imagenet-...")
    parser.add_argument("--check", action="store_true", help="compare with the documented ratios instead")
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


def _check() -> int:
    """Return 1, with a line, if this machine's ratios are twice too far below the documented ones."""
    from pipeline import machine

    documented, failed = RATIOS[machine.resolve_precision("auto")], 0
    for size, expected in documented.items():
        for attempt in range(1, CHECKS + 1):
            ratio = _ratio(size)
            text = f"{size} px: {ratio:.2f} times model.predict, {expected} documented"
            print(f"{text}, at least {LOWEST_SHARE * expected:.2f} expected (attempt {attempt})")
            if ratio >= LOWEST_SHARE * expected:
                break
        else:
            failed = 1
    return failed


def _ratio(size: int) -> float:
    """Return the median of three ratios of forward to predict-32, measured in turn."""
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder), CHECK_IMAGES[size])
        sides = [_started(side, folder, size) for side in ("predict-32", "forward")]
        rates = [[_measured(side)["rate"] for side in sides] for _ in range(3)]
        for side in sides:
            side.communicate()
    return statistics.median(ours / usual for usual, ours in rates)


def _prepare(folder: Path, count: int, dataset: Path | None = None, weights: Path | None = None) -> str:
    """Write images as a prepared data set, and weights; return a description of both."""
    import numpy as np

    from pipeline.backbones.table import BACKBONES
    from pipeline.backbones.weights import publish_weights, random_arrays, read_weights
    from pipeline.datasets.images import ImageWriter
    from pipeline.datasets.store import DATASET_FILE, IMAGES_FILE, ImageStore
    from pipeline.storage import hdf5
    from pipeline.storage.publishing import publish_manifest

    generator = np.random.Generator(np.random.PCG64(0))
    if dataset:
        images = ImageStore(dataset).images
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
    arrays = read_weights(weights) if weights else random_arrays(BACKBONES["vgg16"], seed=0)
    publish_weights(folder / "weights", {"backbone": "vgg16"}, arrays, {})
    names = [path.name.rpartition("-")[0] if path else "random" for path in (dataset, weights)]
    return f"images ({names[0]}), weights {names[1]}"


def _started(side: str, folder: str, size: int) -> subprocess.Popen[str]:
    """Return a side's process, which measures once for each line it reads."""
    command = [sys.executable, __file__, "--side", side, "--folder", folder, "--input-size", str(size)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    _line_of(process, READY)
    return process


def _measured(process: subprocess.Popen[str]) -> dict[str, float]:
    """Let a side measure once; return its rate in images/s and the peak memory of its process in MB."""
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(_line_of(process, '{"rate"'))


def _line_of(process: subprocess.Popen[str], prefix: str) -> str:
    for line in process.stdout:
        if line.startswith(prefix):
            return line
    sys.exit(f"{' '.join(process.args)}: ended with exit code {process.wait()}")


def _base(size: int, precision: str = "auto", **choices: str) -> dict:
    from pipeline.backbones.table import choose_weights
    from pipeline.features.sections import cache_fingerprint
    from pipeline.machine import resolve_precision

    weights = choose_weights("random", "vgg16")
    options = {"precision": resolve_precision(precision), "input_size": size, **choices}
    return cache_fingerprint({"image_size": 32}, backbone="vgg16", weights=weights, **options)


def _headstart(folder: Path, size: int, **options: str) -> Measure:
    from pipeline.features.extract import extract

    def measure():
        with tempfile.TemporaryDirectory(dir=folder) as target:
            folders = {"dataset": str(folder / "dataset"), "weights": str(folder / "weights")}
            request = {**_base(size, **options), "layers": TAPS, "views": ["identity"]}
            (costs,) = extract(request, **folders, folder=target).values()
        return costs["images_per_second"]

    return measure


def _forward(folder: Path, size: int) -> Measure:
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
    pool = ThreadPoolExecutor(one_pass.at_once)

    def run():
        list(pool.map(lambda start: one_pass(images[start : start + one_pass.size], "identity"), starts))

    return _steady(run, len(images))


def _images(folder: Path, size: int):
    """Return the images, enlarged by repeating pixels."""
    import numpy as np

    from pipeline.datasets.store import ImageStore

    rows = np.arange(size) * 32 // size
    return np.ascontiguousarray(ImageStore(folder / "dataset").images[:, rows[:, None], rows])


def _steady(run: Callable, count: int) -> Measure:
    def measure():
        start = time.perf_counter()
        run()
        return count / (time.perf_counter() - start)

    return measure


def _predict(folder: Path, size: int, batch: int) -> Measure:
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

    def measure():
        start = time.perf_counter()
        features = model.predict(images, batch_size=batch, verbose=0, callbacks=[watch])
        with h5py.File(folder / PREDICT_FILE, "w") as file:
            for name, values in zip(TAPS, features, strict=True):
                file.create_dataset(name, data=values)
        return len(images) / (ended[-1] - start)

    return measure


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
            for block in range(1, 6):
                pairs = [arrays[layer] for layer in row.shapes() if layer.startswith(f"block{block}_")]
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


def _torch(folder: Path, size: int) -> Measure:
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

    run(images[: 2 * batch])
    return _steady(lambda: run(images), len(images))


def _openvino(folder: Path, size: int) -> Measure:
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

    run(images[: 4 * batch])
    return _steady(lambda: run(images), len(images))


SIDES: dict[str, Callable[[Path, int], Measure]] = {
    "predict-32": lambda folder, size: _predict(folder, size, 32),
    "predict-256": lambda folder, size: _predict(folder, size, 256),
    "torch-bf16": _torch,
    "openvino-bf16": _openvino,
    "forward": _forward,
    "headstart": _headstart,
    "headstart-amx": lambda folder, size: _headstart(folder, size, engine="tensorflow-amx"),
    "headstart-openvino": lambda folder, size: _headstart(folder, size, engine="openvino"),
    "headstart-torch": lambda folder, size: _headstart(folder, size, engine="torch"),
    "headstart-maps": lambda folder, size: _headstart(folder, size, pooling="none", storage="float16"),
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
    """Return the machine's matrix rate in both precisions, each measured in a child process."""
    rates, environment = [], {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for dtype in ("float32", "bfloat16"):
        code = f"import extraction; print(extraction._matmul_rate({dtype!r}))"
        options = {"cwd": Path(__file__).parent, "env": environment, "capture_output": True, "text": True}
        process = subprocess.run([sys.executable, "-c", code], **options)  # dies where bfloat16 is missing
        rate = "not supported" if process.returncode else f"{float(process.stdout.split()[-1]):.0f}"
        rates.append(f"{dtype} {rate}")
    return ", ".join(rates)


def _table(measured: dict[str, list[dict[str, float]]], source: str, before: str) -> str:
    from pipeline import machine

    rates = {side: [row["rate"] for row in rows] for side, rows in measured.items()}
    base = statistics.median(rates.get("predict-32") or next(iter(rates.values())))
    lines = [
        "| side | images/s | lowest … highest | ratio | peak memory, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for side, rounds in rates.items():
        title = TITLES[side].format(precision=machine.resolve_precision("auto"))
        median, span = statistics.median(rounds), f"{min(rounds):.1f} … {max(rounds):.1f}"
        columns = [f"{median:.1f}", span, f"{median / base:.2f}"]
        memory = measured[side][0]["memory"]  # later ones include what is left of the first
        lines.append(f"| {' | '.join([title, *columns, f'{memory:.0f}'])} |")
    facts, count = machine.describe(), len(next(iter(rates.values())))
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA")
    processor = facts["processor"] + (f" as {isa}" if isa else "")
    lines.append(
        f"\nVGG16 at {source}, {count} rounds, {processor}, {facts['cores']} cores; matrix multiplication "
        f"of 4096 x 4096, GFLOP/s: {before} before, {_matmul_rates()} after. {_versions(rates)}."
    )
    return "\n".join(lines)


def _versions(sides: Iterable[str]) -> str:
    import importlib.metadata

    packages = dict.fromkeys(["tensorflow", "keras", *(PACKAGES[side] for side in sides if side in PACKAGES)])
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


if __name__ == "__main__":
    sys.exit(main())
