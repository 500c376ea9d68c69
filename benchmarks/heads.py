"""Sweeps of heads compared with Keras and scikit-learn, which train one head at a time.

    python benchmarks/heads.py [--dataset cifar10] [--weights imagenet] [--subset N] [--sides NAME,...]

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
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import luigi
import numpy as np

LAYERS = ("block3_pool", "block4_pool", "block5_pool")
EPOCHS, SWEEP_BATCH, KERAS_BATCH = 20, 1024, 256
SPOT_CHECKS = (1e-6, 1e-4, 1e-2, 1.0, 1e5)
SKLEARN_ITERATIONS = 5000


def main() -> int:
    """Run all sides and print the tables."""
    options = _options()
    if options.side:
        print(json.dumps(SIDES[options.side](_data(options.features))))
        return 0
    folder = _features(options)
    results = {}
    for side in options.sides.split(","):
        if side not in SIDES:
            sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {side!r}")
        results[side] = _in_process(side, folder)
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
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--features", help=argparse.SUPPRESS)
    return parser.parse_args()


def _features(options: argparse.Namespace) -> str:
    from tasks import ExtractFeatures

    shared = {"dataset": options.dataset, "weights": options.weights, "subset": options.subset}
    task = ExtractFeatures(layers=",".join(LAYERS), **shared)
    if not luigi.build([task], local_scheduler=True, log_level="WARNING"):
        sys.exit("extracting the features failed, see above")
    return str(task.folder)


def _in_process(side: str, folder: str) -> dict:
    command = [sys.executable, __file__, "--side", side, "--features", folder]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        sys.exit(f"{side} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def _data(folder: str):
    """Return the standardized data of the heads; this and loading TensorFlow are not timed."""
    import tensorflow as tf

    from pipeline.features.store import FeatureStore
    from pipeline.heads.fit import HeadDataLoader
    from pipeline.recipes.heads import HEADS

    store = FeatureStore(folder)
    data = HeadDataLoader(HEADS["logistic"], store, int(store.labels.max()) + 1)(LAYERS)
    tf.constant((len(data.train), len(data.val)))  # standardizes both and starts TensorFlow
    return data


def _timed(solve: Callable[[], list[np.ndarray]], data) -> dict:
    """Return the seconds of solve, which returns logits (n, C) on val for each head, and the accuracies."""
    start = time.perf_counter()
    logits_by_head = solve()
    val = [round(float((logits.argmax(axis=1) == data.val_labels).mean()), 4) for logits in logits_by_head]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "val": val, "rows": len(data.train), "features": data.train.shape[1]}


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
    "logistic-45": lambda data: _sweep(data, "logistic", "float32"),
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
