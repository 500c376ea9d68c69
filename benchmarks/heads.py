"""Sweeps of heads compared with Keras and scikit-learn, which train one head at a time.

    python benchmarks/heads.py [--dataset cifar10] [--weights imagenet] [--subset N] [--sides NAME,...]
    python benchmarks/heads.py --rows 100000,1000000 [--epochs 20] [--data FOLDER]

All sides train on the same standardized features in memory, blocks 3, 4 and 5 joined (1,280 numbers per
image). They run one after another, each in its own process; seconds count from data in memory to val
accuracy. The feature cache is stored in the data folder and reused if it exists.

- keras-linear, keras-dense: the usual Keras `fit` of one linear or one dense head (512 units), float32,
  AdamW, 20 epochs in batches of 256;
- linear-32, dense-16: this project's sweep of 32 linear heads (4 rates x 8 decays) and of 16 dense heads
  (rates, decays, dropout), 20 epochs, in batches of 1,024;
- ridge-33: 33 penalties; sklearn-ridge: scikit-learn's RidgeClassifier, one of them;
- logistic-45: 45 inverse penalties from 10^-6 to 10^5; sklearn-logistic: scikit-learn's LogisticRegression at
  five of them, to convergence; the val accuracies are compared.

--rows measures instead what heads take when features exceed memory: made-up features of 1,472 numbers and ten
classes (10,000 rows, repeated with noise; a tenth is val), one linear head, a sweep of 32, 33 ridge penalties
and 45 logistic ones. Seconds of writing the mapped file, in FOLDER, and of the heads; the largest RssAnon.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import luigi
import numpy as np
from memory import LargestMemory

LAYERS = ("block3_pool", "block4_pool", "block5_pool")
EPOCHS, SWEEP_BATCH, KERAS_BATCH = 20, 1024, 256
SPOT_CHECKS = (1e-6, 1e-4, 1e-2, 1.0, 1e5)
SKLEARN_ITERATIONS = 5000
MADE_WIDTH, MADE_ROWS, MADE_LATENT, MADE_BLOCK = 1472, 10_000, 300, 4096
MADE_SIDES = ("linear-1", "linear-32", "ridge-33", "logistic-45")


def main() -> int:
    """Run all sides and print the tables."""
    options = _options()
    if options.rows:
        (_made_side if options.side else _measure_rows)(options)
        return 0
    if options.side:
        print(json.dumps(SIDES[options.side](_data(options.features, options.images))))
        return 0
    folders = _features(options)
    results = {}
    for side in options.sides.split(","):
        if side not in SIDES:
            sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {side!r}")
        results[side] = _in_process(side, *folders)
        print(f"{side}: {results[side]['seconds']:.1f} s, val {results[side]['val']}", file=sys.stderr)
    print(_table(results))
    print(_spot_checks(results))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--weights", default="imagenet", help="weights (default: imagenet)")
    parser.add_argument("--subset", type=int, default=0, help="number of images, 0 for all (default: 0)")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"sides to run (default: {','.join(SIDES)})")
    parser.add_argument("--rows", default="", help="numbers of made-up rows to measure memory with")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the linear heads with --rows")
    parser.add_argument("--data", type=Path, help="folder for the mapped file (default: a temporary one)")
    parser.add_argument("--side", choices=(*SIDES, *MADE_SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--features", help=argparse.SUPPRESS)
    parser.add_argument("--images", help=argparse.SUPPRESS)
    return parser.parse_args()


def _features(options: argparse.Namespace) -> tuple[str, str]:
    from tasks import ExtractFeatures

    shared = {"dataset": options.dataset, "weights": options.weights, "subset": options.subset}
    task = ExtractFeatures(layers=",".join(LAYERS), **shared)
    if not luigi.build([task], local_scheduler=True, log_level="WARNING"):
        sys.exit("extracting the features failed, see above")
    return str(task.folder), str(task.prepared.folder)


def _in_process(side: str, features: str, images: str) -> dict:
    command = [sys.executable, __file__, "--side", side, "--features", features, "--images", images]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        sys.exit(f"{side} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def _data(features: str, images: str):
    """Return the standardized data of the heads; this and loading TensorFlow are not timed."""
    import tensorflow as tf

    from pipeline.datasets.store import ImageStore
    from pipeline.features.store import FeatureStore
    from pipeline.heads.fit import HeadDataLoader
    from pipeline.recipes.heads import HEADS

    data = HeadDataLoader(HEADS["logistic"], FeatureStore(features), ImageStore(images))(LAYERS)
    tf.constant((len(data.train), len(data.val)))  # standardizes both and starts TensorFlow
    return data


def _timed(solve: Callable[[], list[np.ndarray]], data) -> dict:
    """Return the seconds of solve, which returns logits (n, C) on val for each head, and the accuracies."""
    start = time.perf_counter()
    logits_by_head = solve()
    val = [round(float((logits.argmax(axis=1) == data.val_labels).mean()), 4) for logits in logits_by_head]
    seconds = time.perf_counter() - start
    rows, features = data.train.shape
    return {"seconds": seconds, "val": val, "rows": rows, "features": features}


def _keras(data, hidden: int) -> dict:
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(hidden, activation="relu"), keras.layers.Dropout(0.5)] if hidden else []
    model = keras.Sequential([*layers, keras.layers.Dense(data.classes, activation="softmax")])
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    def solve():
        model.fit(data.train, data.train_labels, batch_size=KERAS_BATCH, epochs=EPOCHS, verbose=0)
        return [np.asarray(model(data.val, training=False))]

    return _timed(solve, data)


def _sweep(data, name: str, precision: str, **settings) -> dict:
    import importlib

    from pipeline.recipes.heads import HEADS
    from pipeline.recipes.settings import override
    from pipeline.recipes.sweep import points_of

    recipe = override(HEADS[name], settings)
    module = importlib.import_module(recipe.module)
    points = points_of(recipe.space)

    def solve():
        return [one[0] for one in module.predict_logits(recipe, points, data, precision=precision)]

    return _timed(solve, data)


def _path(data) -> dict:
    """Solve the path of penalties; "gradient" is the largest of the gradients at its solutions."""
    from pipeline.heads.data import blocks
    from pipeline.heads.penalised import solve_path
    from pipeline.recipes.heads import HEADS

    penalties = HEADS["logistic"].space["c"]
    options = {"classes": data.classes, "loss": "softmax", "inverse_penalties": penalties}
    found = {}

    def solve():
        found["weights"], found["bias"], _ = solve_path(data.train, data.train_labels, **options)
        columns = np.concatenate(list(found["weights"]), axis=1)
        logits = np.concatenate([rows @ columns for _, rows in blocks(data.val)])
        return list(np.moveaxis(logits.reshape(-1, *found["bias"].shape) + found["bias"], 1, 0))

    result = _timed(solve, data)
    return {**result, "gradient": float(_relative_gradients(data, penalties, **found).max())}


def _relative_gradients(data, penalties, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the norms (K,) of the gradients on centered rows, relative to that at zero, in float64."""
    from scipy.special import softmax

    from pipeline.heads.data import blocks

    n, one_hot = len(data.train_labels), np.eye(data.classes)
    mean = sum(rows.sum(axis=0, dtype=np.float64) for _, rows in blocks(data.train)) / n
    weights = np.concatenate([weights, np.zeros_like(weights[:1])]).astype(np.float64)  # the last is zero
    bias = np.concatenate([bias, np.zeros_like(bias[:1])])
    decay = 1 / (np.append(penalties, np.inf) * n)
    slopes, residuals = weights * decay[:, None, None], np.zeros(bias.shape)
    for block, rows in blocks(data.train):
        logits = np.tensordot(rows, weights, (1, 1)) + bias  # (B, K, C)
        residual = (softmax(logits, axis=2) - one_hot[data.train_labels[block], None]) / n
        slopes += np.moveaxis(np.tensordot(rows - mean, residual, (0, 0)), 0, 1)
        residuals += residual.sum(axis=0)
    norms = np.sqrt((slopes**2).sum(axis=(1, 2)) + (residuals**2).sum(axis=1))
    return norms[:-1] / norms[-1]


def _networks(data, name: str) -> dict:
    from pipeline.machine import resolve_precision

    precision = resolve_precision("auto")
    return _sweep(data, name, precision, epochs=EPOCHS, batch_size=SWEEP_BATCH)


def _sklearn_ridge(data) -> dict:
    from sklearn.linear_model import RidgeClassifier

    def solve():
        return [RidgeClassifier(alpha=1e3).fit(data.train, data.train_labels).decision_function(data.val)]

    return _timed(solve, data)


def _sklearn_logistic(data) -> dict:
    from sklearn.linear_model import LogisticRegression

    seconds, val = [], []
    for c in SPOT_CHECKS:
        head = LogisticRegression(C=c, max_iter=SKLEARN_ITERATIONS)

        def solve(head=head):
            return [head.fit(data.train, data.train_labels).decision_function(data.val)]

        result = _timed(solve, data)
        seconds.append(result["seconds"])
        val += result["val"]
        print(f"scikit-learn, C={c:g}: {seconds[-1]:.1f} s, {head.n_iter_[0]} iterations", file=sys.stderr)
    return {**result, "seconds": seconds[SPOT_CHECKS.index(1.0)], "each": seconds, "val": val}


SIDES: dict[str, Callable[..., dict]] = {
    "keras-linear": lambda data: _keras(data, 0),
    "linear-32": lambda data: _networks(data, "linear"),
    "keras-dense": lambda data: _keras(data, 512),
    "dense-16": lambda data: _networks(data, "dense"),
    "sklearn-ridge": _sklearn_ridge,
    "ridge-33": lambda data: _sweep(data, "ridge", "float32"),
    "sklearn-logistic": _sklearn_logistic,
    "logistic-45": _path,
}
BASELINES = {
    "keras-linear": "keras-linear",
    "linear-32": "keras-linear",
    "keras-dense": "keras-dense",
    "dense-16": "keras-dense",
    "sklearn-ridge": "sklearn-ridge",
    "ridge-33": "sklearn-ridge",
    "sklearn-logistic": "sklearn-logistic",
    "logistic-45": "sklearn-logistic",
}
TITLES = {
    "keras-linear": "Keras `fit`, one linear head",
    "linear-32": "32 linear heads at once, {precision}",
    "keras-dense": "Keras `fit`, one dense head",
    "dense-16": "16 dense heads at once, {precision}",
    "sklearn-ridge": "scikit-learn's RidgeClassifier, one penalty",
    "ridge-33": "33 ridge penalties",
    "sklearn-logistic": "scikit-learn's LogisticRegression, C = 1",
    "logistic-45": "45 logistic penalties",
}


class MadeFeatures:
    """A data set and its cached features, made up when they are read; a tenth of the rows is val."""

    def __init__(self, rows: int, folder: Path):
        generator = np.random.default_rng(0)
        labels = np.arange(MADE_ROWS) % 10
        latent = generator.normal(size=(10, MADE_LATENT))[labels] / 4
        latent += generator.normal(size=latent.shape)
        latent *= np.arange(1, MADE_LATENT + 1) ** -0.5
        mixed = latent @ generator.normal(size=(MADE_LATENT, MADE_WIDTH))
        self._base = np.maximum(mixed, 0).astype(np.float32)
        self.folder, self.index = folder, np.arange(rows)
        self.labels, self.weights = labels[self.index % MADE_ROWS], None
        self.class_names = [str(label) for label in range(10)]

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of train or val."""
        return self.index[(self.index % 10 == self.index // 10 % 10) == (split == "val")]

    def width(self, layer: str, view: str) -> int:
        """Return the number of features."""
        return MADE_WIDTH

    def blocks(self, layers: tuple[str, ...], view: str) -> Iterator[np.ndarray]:
        """Yield the rows in blocks."""
        for start in range(0, len(self.index), MADE_BLOCK):
            rows = self._base[self.index[start : start + MADE_BLOCK] % MADE_ROWS]
            noise = np.random.default_rng([1, start]).standard_normal(rows.shape, np.float32)
            yield rows + 0.2 * noise

    def load(self, layers: tuple[str, ...], view: str) -> np.ndarray:
        """Return all rows."""
        return np.concatenate(list(self.blocks(layers, view)))


def _made_side(options: argparse.Namespace) -> None:
    """Measure one side and print its result."""
    from pipeline.heads.fit import HeadDataLoader
    from pipeline.heads.network import fit
    from pipeline.machine import resolve_precision
    from pipeline.recipes.heads import HEADS
    from pipeline.recipes.settings import override
    from pipeline.training.history import History

    name, _, count = options.side.partition("-")
    start = time.perf_counter()
    made = MadeFeatures(int(options.rows), options.data)
    data = HeadDataLoader(HEADS[name], made, made)(("made",))
    result = {"load": time.perf_counter() - start}
    start = time.perf_counter()
    settings = {"epochs": options.epochs, "batch_size": SWEEP_BATCH} if name == "linear" else {}
    if count == "1":
        history = History()
        fit(override(HEADS[name], settings), data, seed=0, history=history)
        result |= {"val": [history.rows[-1]["val_accuracy"]], "seconds": time.perf_counter() - start}
    elif name == "logistic":
        result |= _path(data)
    else:
        result |= _sweep(data, name, resolve_precision("auto") if settings else "float32", **settings)
    print(json.dumps(result))


def _measure_rows(options: argparse.Namespace) -> None:
    """Print a table of all sides at each number of rows, each in its own process."""
    print("| heads | rows | write, s | heads, s | RssAnon, largest | best on val | largest gradient |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    sides = MADE_SIDES if options.sides == ",".join(SIDES) else options.sides.split(",")
    for rows in options.rows.split(","):
        for side in sides:
            with tempfile.TemporaryDirectory(dir=options.data) as folder:
                command = [sys.executable, __file__, "--rows", rows, "--side", side]
                command += ["--data", folder, "--epochs", str(options.epochs)]
                process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                with process, LargestMemory(process.pid) as memory:
                    output, _ = process.communicate()
            if process.returncode:
                sys.exit(f"{side} failed with exit code {process.returncode}")
            row = json.loads(output.splitlines()[-1])
            line = f"| {side} | {int(rows):,} | {row['load']:.1f} | {row['seconds']:.1f} "
            line += f"| {memory.largest / 1e9:.2f} GB | {100 * max(row['val']):.1f} % "
            gradient = f"{row['gradient']:.1e}" if "gradient" in row else "–"
            print(f"{line}| {gradient} |", flush=True)


def _table(results: dict[str, dict]) -> str:
    from pipeline import machine

    lines = ["| side | heads | seconds | relative to one | best on val |", "|---|---:|---:|---:|---:|"]
    for side, row in results.items():
        baseline = results.get(BASELINES[side])
        ratio = f"{row['seconds'] / baseline['seconds']:.2f}" if baseline else "–"
        heads = 1 if side == BASELINES[side] else len(row["val"])
        title = TITLES[side].format(precision=machine.resolve_precision("auto"))
        best = row["val"][SPOT_CHECKS.index(1.0)] if side == "sklearn-logistic" else max(row["val"])
        lines.append(f"| {title} | {heads} | {row['seconds']:.1f} | {ratio} | {100 * best:.2f} % |")
    facts, versions = machine.describe(), machine.versions()
    first = next(iter(results.values()))
    names = ", ".join(f"{name} {versions[name]}" for name in ("tensorflow", "keras", "scikit-learn"))
    if path := results.get("logistic-45"):
        lines.append(f"\nThe largest relative gradient of the path is {path['gradient']:.1e}.")
    lines.append(
        f"\n{first['rows']:,} x {first['features']:,} features, "
        f"{facts['processor']}, {facts['cores']} cores; {names}."
    )
    return "\n".join(lines)


def _spot_checks(results: dict[str, dict]) -> str:
    """Return val accuracies at the penalties that scikit-learn solved, next to this project's."""
    if not {"sklearn-logistic", "logistic-45"} <= set(results):
        return ""
    from pipeline.recipes.heads import HEADS

    path = dict(zip(HEADS["logistic"].space["c"], results["logistic-45"]["val"], strict=True))
    sklearn = results["sklearn-logistic"]
    lines = [
        "| C | scikit-learn, s | scikit-learn | path | difference, points |",
        "|---:|---:|---:|---:|---:|",
    ]
    for c, seconds, accuracy in zip(SPOT_CHECKS, sklearn["each"], sklearn["val"], strict=True):
        difference = 100 * (path[c] - accuracy)
        lines.append(
            f"| {c:g} | {seconds:.1f} | {100 * accuracy:.2f} % | {100 * path[c]:.2f} % | {difference:+.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
