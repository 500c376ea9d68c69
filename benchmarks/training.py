"""Training steps of a from-scratch recipe against Keras `fit`, in images per second; in one run, in turn.

    python benchmarks/training.py [--recipe fast] [--dataset cifar10] [--images 8192] [--passes 3]

All sides train the same network from the same weights on the same uint8 images in memory, with the same
flips, shifts, batches, loss and optimiser; each runs in a process of its own. The first pass, which builds
the graph, does not count.

- keras-float32, keras-bfloat16: Keras `compile` and `fit` on a tf.data pipeline that shuffles, varies and
  prefetches, with jit_compile="auto" (which Keras leaves off on a processor, unless --jit says otherwise);
- headstart-float32, headstart-bfloat16: the project's own loop, as TrainFromScratch runs it.

Afterwards: what gathering and varying the images costs, as a share of a step of headstart-bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import luigi
import numpy as np

from pipeline.training.recipes import SCRATCH_RECIPES, ScratchRecipe

SIDES = ("keras-float32", "keras-bfloat16", "headstart-float32", "headstart-bfloat16")


def main() -> int:
    """Run all sides in turn and print the table and what the input costs."""
    options = _options()
    if options.side:
        print(json.dumps(_measured(options)))
        return 0
    folder, found = _dataset(options), {side: [] for side in options.sides.split(",")}
    for _ in range(options.rounds):
        for side in found:
            if side not in SIDES:
                sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {side!r}")
            found[side].append(_in_process(side, folder, options))
            print(f"{side}: {found[side][-1]['rate']:.0f} images/s", file=sys.stderr)
    print(_table(found))
    shares = [one["input_share"] for runs in found.values() for one in runs if "input_share" in one]
    if shares:
        print(f"\nGathering and varying the images takes {100 * max(shares):.1f} % of a bfloat16 step.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="fast", choices=SCRATCH_RECIPES, help="(default: fast)")
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--images", type=int, default=8192, help="images of a pass (default: 8192)")
    parser.add_argument("--passes", type=int, default=3, help="passes, the first uncounted (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, help="times that each side runs (default: 1)")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"which (default: {','.join(SIDES)})")
    parser.add_argument("--jit", action="store_true", help="let Keras compile its step by XLA")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _dataset(options: argparse.Namespace) -> str:
    from tasks import PrepareDataset

    task = PrepareDataset(dataset=options.dataset)
    if not luigi.build([task], local_scheduler=True, log_level="WARNING"):
        sys.exit("the data set could not be prepared, see above")
    return str(task.folder)


def _in_process(side: str, folder: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--side", side, "--folder", folder, "--recipe", options.recipe]
    command += ["--images", str(options.images), "--passes", str(options.passes)]
    command += ["--jit"] if options.jit else []
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measured(options: argparse.Namespace) -> dict:
    """Return the images per second of one side, its peak memory, and the share of the input where asked."""
    from pipeline import machine, numerics
    from pipeline.datasets.store import ImageStore
    from pipeline.training.loop import Examples

    who, _, precision = options.side.partition("-")
    if who == "keras":
        _start_keras(precision)
    else:
        numerics.start(seed=0, precision=precision)
    recipe, store = SCRATCH_RECIPES[options.recipe], ImageStore(options.folder)
    rows = store.rows("train")[: options.images]
    images, labels = store.images()[rows], store.labels[rows]
    examples = Examples(images, labels, np.arange(len(rows)), np.arange(0), len(store.class_names))
    batch = min(recipe.batch_size, len(rows))
    model = _network(recipe, images, examples.classes)
    run = _keras if who == "keras" else _headstart
    seconds = statistics.median(run(recipe, model, examples, batch, options)[1:])
    trained = len(rows) // batch * batch
    found = {"rate": trained / seconds, "seconds": seconds, "memory": machine.peak_memory_mb()}
    if options.side == "headstart-bfloat16":
        found["input_share"] = _input_seconds(recipe, examples, batch) / (seconds / (len(rows) // batch))
    return found


def _start_keras(precision: str) -> None:
    """Set Keras's precision alone: with deterministic operations, tf.data would vary images one by one."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")


def _network(recipe: ScratchRecipe, images: np.ndarray, classes: int):
    from pipeline.training.scratch import build_network, channel_moments, start_weights

    mean, variance = channel_moments(images)
    model = build_network(recipe, mean=mean, variance=variance, size=images.shape[1], classes=classes)
    start_weights(recipe, model, images)
    return model


def _headstart(recipe: ScratchRecipe, model, examples, batch: int, options) -> list[float]:
    """Return the seconds of each pass of the project's own loop."""
    from pipeline.networks.quick import quick_copy
    from pipeline.training.loop import Classifier, History, Stage, fit
    from pipeline.training.scratch import paces_of

    network, history = Classifier(quick_copy(model)), History()
    stage = Stage.of(recipe, "blocks", epochs=options.passes, batch_size=batch)
    paces = {"paces": lambda steps: paces_of(recipe, network.model, steps)}
    fit(network, examples, stage, seed=0, history=history, **paces)
    return np.diff([0.0, *(row["seconds"] for row in history.rows)]).tolist()


def _keras(recipe: ScratchRecipe, model, examples, batch: int, options) -> list[float]:
    """Return the seconds of each pass of Keras `fit`."""
    import keras
    import tensorflow as tf

    from pipeline.training.augment import augmented

    def varied(images, labels):
        seed = tf.random.uniform((2,), maxval=2**31 - 1, dtype=tf.int32)
        images = augmented(images, seed, flip=recipe.flip, shift=recipe.shift)
        return images, tf.one_hot(labels, examples.classes)

    data = tf.data.Dataset.from_tensor_slices((examples.inputs, examples.labels)).shuffle(
        len(examples.inputs)
    )
    data = data.batch(batch, drop_remainder=True).map(varied, num_parallel_calls=tf.data.AUTOTUNE)
    kind = keras.optimizers.SGD if recipe.optimizer == "sgd" else keras.optimizers.AdamW
    more = {"momentum": recipe.momentum, "nesterov": True} if recipe.optimizer == "sgd" else {}
    model.compile(
        kind(recipe.learning_rate, weight_decay=recipe.weight_decay, **more),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile=True if options.jit else "auto",
    )
    seconds, began = [], time.perf_counter()

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - began)

    model.fit(data.prefetch(tf.data.AUTOTUNE), epochs=options.passes, verbose=0, callbacks=[Watch()])
    return np.diff([0.0, *seconds]).tolist()


def _input_seconds(recipe: ScratchRecipe, examples, batch: int, repeats: int = 20) -> float:
    """Return the seconds of gathering and varying one batch inside a graph, as the loop does."""
    import tensorflow as tf

    from pipeline.training.augment import augmented

    inputs = tf.constant(examples.inputs)

    @tf.function
    def vary(order):
        total = tf.zeros((), tf.int64)
        for number in tf.range(tf.shape(order)[0]):
            rows = order[number]
            mirrored = (rows + number) % 2 == 1 if recipe.alternate else None
            seed = tf.stack([0, number])
            made = augmented(
                tf.gather(inputs, rows), seed, flip=recipe.flip, shift=recipe.shift, mirrored=mirrored
            )
            total += tf.cast(made[0, 0, 0, 0] + made[-1, -1, -1, -1], tf.int64)
        return total

    generator = np.random.default_rng(0)
    order = tf.constant(generator.integers(0, len(examples.inputs), (repeats, batch)), tf.int32)
    vary(order)
    began = time.perf_counter()
    vary(order).numpy()
    return (time.perf_counter() - began) / repeats


def _table(found: dict[str, list[dict]]) -> str:
    """Return the table: the median over rounds, and the ratio to the first side."""
    lines = ["| side | images/s | ratio | a pass | peak memory |", "|---|---:|---:|---:|---:|"]
    rates = {side: statistics.median(one["rate"] for one in runs) for side, runs in found.items()}
    base = next(iter(rates.values()))
    for side, runs in found.items():
        seconds = statistics.median(one["seconds"] for one in runs)
        memory = max(one["memory"] for one in runs)
        lines.append(
            f"| {side} | {rates[side]:,.0f} | {rates[side] / base:.2f} | {seconds:.1f} s | {memory:,.0f} MB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
