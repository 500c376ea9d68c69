"""Sweeps of heads against Keras and scikit-learn, which train one head at a time; in one run, in turn.

    python benchmarks/heads.py [--dataset cifar10] [--weights hed] [--subset N] [--sides NAME,...]

All sides learn from the same cached features in memory, blocks 3, 4 and 5 joined (1,280 numbers an image),
standardised; each runs in a process of its own, and seconds count from the data in memory to val accuracy.
The caches are the graph's own, in the data folder; what is there already is not made again.

- keras-linear, keras-dense: Keras `fit` of one linear or one dense head (512 units), float32, AdamW, 20
  epochs in batches of 256 as most people write it;
- linear-32, dense-16: this project's sweep of 32 linear heads (4 rates x 8 decays) and of 16 dense heads
  (rates, decays, dropout), 20 epochs, in batches of 1,024;
- ridge-33: 33 penalties; sklearn-ridge: scikit-learn's RidgeClassifier, one of them;
- logistic-45: 45 inverse penalties from 10^-6 to 10^5; sklearn-logistic: scikit-learn's LogisticRegression at
  five of them, to convergence, whose val accuracies are compared.
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
    """Run all sides in turn and print the tables."""
    options = _options()
    if options.side:
        print(json.dumps(SIDES[options.side](_data(options.features))))
        return 0
    folder = _features(options)
    found = {}
    for side in options.sides.split(","):
        if side not in SIDES:
            sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {side!r}")
        found[side] = _in_process(side, folder)
        print(f"{side}: {found[side]['seconds']:.1f} s, val {found[side]['val']}", file=sys.stderr)
    print(_table(found))
    print(_spot_checks(found))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--weights", default="hed", help="weights (default: hed)")
    parser.add_argument("--subset", type=int, default=0, help="images of a subset, 0 for all (default: 0)")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"which (default: {','.join(SIDES)})")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--features", help=argparse.SUPPRESS)
    return parser.parse_args()


def _features(options: argparse.Namespace) -> str:
    from tasks import ExtractFeatures

    shared = {"dataset": options.dataset, "weights": options.weights, "subset": options.subset}
    task = ExtractFeatures(layers=",".join(LAYERS), **shared)
    if not luigi.build([task], local_scheduler=True, log_level="WARNING"):
        sys.exit("the features could not be extracted, see above")
    return str(task.folder)


def _in_process(side: str, folder: str) -> dict:
    command = [sys.executable, __file__, "--side", side, "--features", folder]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _data(folder: str):
    """Return the data of the heads, standardised; that and loading TensorFlow is common to all sides."""
    import tensorflow as tf

    from pipeline.features.store import FeatureStore
    from pipeline.heads.fit import Reader

    store = FeatureStore(folder)
    data = Reader(store, ("identity",), int(store.labels.max()) + 1)(LAYERS)
    tf.constant((len(data.train), len(data.val)))  # standardises both, and starts TensorFlow
    return data


def _timed(solve: Callable[[], list[np.ndarray]], data) -> dict:
    """Return the seconds of solve, which gives answers (n, C) on val for each head, and their accuracies."""
    began = time.perf_counter()
    answers = solve()
    val = [round(float((one.argmax(axis=1) == data.val_labels).mean()), 4) for one in answers]
    seconds = time.perf_counter() - began
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
        return [one[0] for one in module.answers(recipe, points, data, precision=precision)]

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

    each, val = [], []
    for c in SPOT_CHECKS:
        head = LogisticRegression(C=c, max_iter=SKLEARN_ITERATIONS)

        def solve(head=head):
            return [head.fit(data.train, data.train_labels).decision_function(data.val)]

        found = _timed(solve, data)
        each.append(found["seconds"])
        val += found["val"]
        print(f"scikit-learn, C={c:g}: {each[-1]:.1f} s, {head.n_iter_[0]} iterations", file=sys.stderr)
    return {**found, "seconds": each[SPOT_CHECKS.index(1.0)], "each": each, "val": val}


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
AGAINST = {
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


def _table(found: dict[str, dict]) -> str:
    from pipeline import machine

    lines = ["| what | heads | seconds | against one | best on val |", "|---|---:|---:|---:|---:|"]
    for side, row in found.items():
        one = found.get(AGAINST[side])
        ratio = f"{row['seconds'] / one['seconds']:.2f}" if one else "–"
        heads = 1 if side == AGAINST[side] else len(row["val"])
        title = TITLES[side].format(precision=machine.resolve_precision("auto"))
        best = row["val"][SPOT_CHECKS.index(1.0)] if side == "sklearn-logistic" else max(row["val"])
        lines.append(f"| {title} | {heads} | {row['seconds']:.1f} | {ratio} | {100 * best:.2f} % |")
    facts, versions = machine.describe(), machine.versions()
    first = next(iter(found.values()))
    names = ", ".join(f"{name} {versions[name]}" for name in ("tensorflow", "keras", "scikit-learn"))
    lines.append(
        f"\n{first['rows']:,} x {first['features']:,} features, "
        f"{facts['processor']}, {facts['cores']} cores; {names}."
    )
    return "\n".join(lines)


def _spot_checks(found: dict[str, dict]) -> str:
    """Return val accuracies at the penalties that scikit-learn solved, beside this project's."""
    if not {"sklearn-logistic", "logistic-45"} <= set(found):
        return ""
    from pipeline.recipes.heads import HEADS

    path = dict(zip(HEADS["logistic"].space["c"], found["logistic-45"]["val"], strict=True))
    theirs = found["sklearn-logistic"]
    lines = [
        "| C | scikit-learn, s | scikit-learn | path | difference, points |",
        "|---:|---:|---:|---:|---:|",
    ]
    for c, seconds, accuracy in zip(SPOT_CHECKS, theirs["each"], theirs["val"], strict=True):
        apart = 100 * (path[c] - accuracy)
        lines.append(
            f"| {c:g} | {seconds:.1f} | {100 * accuracy:.2f} % | {100 * path[c]:.2f} % | {apart:+.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
