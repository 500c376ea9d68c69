"""Training from scratch compared with Keras `fit`, in images per second.

    python benchmarks/training.py [--recipe fast] [--dataset cifar10] [--images N] [--passes N] [--rounds N]
                                  [--batch N] [--sides NAME,...]

All sides train the same network from the same weights on the same uint8 images in memory, with the recipe's
flips, shifts, batches, loss, optimizer and learning-rate schedule. They run one after another, each in its
own process. Only the project's loop spends time on averaging and learning-rate multipliers. Operations are
deterministic on all sides without XLA, at no measurable cost to Keras. The first pass, which builds the
graph, is not timed.

- keras-float32, keras-bfloat16: Keras `compile` and `fit` of the network as it is saved, on a tf.data
  pipeline that shuffles, batches, augments in parallel and prefetches; without XLA, which is faster on CPUs;
- keras-float32-xla, keras-bfloat16-xla: the same compiled by XLA, which jit_compile="auto" leaves off on
  CPUs; several times slower there, so they run only if --sides names them;
- headstart-float32, headstart-bfloat16: the project's own loop on the fast copy, as in TrainFromScratch.

A Keras pass is timed from its first step: TensorFlow 2.21 can wait up to five seconds before it (the
destructor of the last pass's data iterator joins a sleeping thread). A pass of the loop is timed in full.

A second table gives the cost of gathering and augmenting images for headstart-bfloat16: the same batches
without a network, as a share of the whole step. It should be below 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import luigi
import numpy as np

from pipeline.recipes.from_scratch import SCRATCH_RECIPES, ScratchRecipe


@dataclass(frozen=True)
class Side:
    """A way to train: its function, its precision, and whether XLA compiles it."""

    title: str
    run: Callable[..., list[float]]
    precision: str
    xla: bool = False


def main() -> int:
    """Run all sides and print the tables."""
    options = _options()
    if options.side:
        print(json.dumps(_measure(SIDES[options.side], options)))
        return 0
    sides = options.sides.split(",")
    if unknown := [side for side in sides if side not in SIDES]:
        sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {unknown[0]!r}")
    if options.passes < 2:
        sys.exit(f"--passes: expected 2 or more, since the first is not timed, received {options.passes}")
    folder, results = _dataset(options.dataset), {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides:
            results[side].append(_in_process(side, folder))
            rate = results[side][-1]["rate"]
            print(f"round {number + 1}: {side}: {rate:.0f} images/s", file=sys.stderr)
    parts = (_table(results), _input_table(results), _facts(results, options))
    print("\n\n".join(part for part in parts if part))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ",".join(name for name, side in SIDES.items() if not side.xla)
    parser.add_argument("--recipe", default="fast", choices=SCRATCH_RECIPES, help="recipe (default: fast)")
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--images", type=int, default=8192, help="training images per pass (default: 8192)")
    parser.add_argument("--passes", type=int, default=3, help="passes, the first not timed (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of all sides (default: 1)")
    parser.add_argument("--batch", type=int, help="images per step (default: the recipe's)")
    parser.add_argument("--sides", default=default, help=f"of {', '.join(SIDES)} (default: without XLA)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _dataset(name: str) -> str:
    from tasks import PrepareDataset

    task = PrepareDataset(dataset=name)
    if not luigi.build([task], local_scheduler=True, log_level="WARNING"):
        sys.exit("preparing the data set failed, see above")
    return str(task.folder)


def _in_process(side: str, folder: str) -> dict:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", folder]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        sys.exit(f"{side} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def _measure(side: Side, options: argparse.Namespace) -> dict:
    """Return images per second, seconds per pass and step without the first pass, and peak memory in MB.

    For headstart-bfloat16, input is the seconds that the images of one step take.
    """
    from pipeline import machine

    start_process(side.precision, xla=side.xla)
    recipe = SCRATCH_RECIPES[options.recipe]
    examples = training_examples(Images(options.folder, options.images))
    batch = min(options.batch or recipe.batch_size, len(examples.train))
    steps = len(examples.train) // batch
    model = _network(recipe, examples)
    settings = {"batch": batch, "passes": options.passes, "xla": side.xla}
    step = statistics.mean(side.run(recipe, model, examples, **settings))
    rate, memory = batch / step, machine.peak_memory_mb()
    result = {"rate": rate, "pass": step * steps, "step": step, "memory": memory}
    result |= {"batch": batch, "steps": steps}
    if side is SIDES["headstart-bfloat16"]:
        result["input"] = _input_seconds(recipe, examples, batch=batch, passes=options.passes)
    return result


def start_process(precision: str, *, xla: bool = False) -> None:
    """Set seeds and precision as the project does; Keras does not allow XLA with deterministic operations."""
    import keras

    from pipeline import numerics

    if not xla:
        numerics.configure(seed=0, precision=precision)
        return
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")


@dataclass(frozen=True)
class Images:
    """The folder of a prepared data set, and how many of its training images to use."""

    folder: str
    count: int


def training_examples(images: Images):
    """Return the first training images of a data set, without val."""
    from pipeline.datasets.store import ImageStore
    from pipeline.training.examples import Examples

    store = ImageStore(images.folder)
    rows = store.rows("train")[: images.count]
    pixels, none = store.images[rows], np.arange(0)
    return Examples(pixels, store.labels[rows], np.arange(len(rows)), none, len(store.class_names))


def _network(recipe: ScratchRecipe, examples):
    from pipeline.schemes.from_scratch import build_network, channel_moments, initialize_weights

    moments = channel_moments(examples.inputs, examples.train)
    sizes = dict.fromkeys(("image_size", "input_size"), examples.inputs.shape[1])
    model = build_network(recipe, moments, classes=examples.classes, **sizes)
    initialize_weights(recipe, model, examples.inputs[:5000])
    return model


def _headstart(recipe: ScratchRecipe, model, examples, *, batch: int, passes: int, xla: bool) -> list[float]:
    """Return the seconds per step of each pass of the loop except the first."""
    from pipeline.networks.fast_copy import fast_copy
    from pipeline.schemes.from_scratch import lr_multipliers
    from pipeline.training.classifier import Classifier
    from pipeline.training.history import History
    from pipeline.training.loop import fit
    from pipeline.training.stage import Stage

    network, history = Classifier(fast_copy(model)), History()
    stage = Stage.of(recipe, "blocks", epochs=passes, batch_size=batch)

    def multipliers(steps: int):
        return lr_multipliers(recipe, network.model, steps)

    fit(network, examples, stage, seed=0, history=history, multipliers=multipliers)
    seconds = np.diff([row["seconds"] for row in history.rows])
    return (seconds / (len(examples.train) // batch)).tolist()


def keras_seconds(recipe, model, examples, *, batch: int, passes: int, xla: bool = False) -> list[float]:
    """Return the seconds per step of each pass of Keras `fit` except the first."""
    import keras

    from pipeline.training import optimizers
    from pipeline.training.stage import Stage

    optimizers.OPTIMIZERS["adamw"] = keras.optimizers.AdamW  # Keras's own, not the fused one
    steps = len(examples.train) // batch
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    stage = Stage.of(recipe, "fit", epochs=passes)
    optimizer = optimizers.make_optimizer(stage, steps * passes)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=xla)
    starts, ends = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                starts.append(time.perf_counter())

        def on_epoch_end(self, epoch, logs=None):
            ends.append(time.perf_counter())

    model.fit(_batches(recipe, examples, batch), epochs=passes, verbose=0, callbacks=[Watch()])
    return [(last - first) / steps for first, last in zip(starts[1:], ends[1:], strict=True)]


def _batches(recipe, examples, batch: int):
    """Return augmented images and one-hot labels as a tf.data pipeline.

    Seeds come from a counter: with deterministic operations, TensorFlow runs stateful random operations one
    at a time, which would slow Keras down.
    """
    import tensorflow as tf

    from pipeline.training.augmentation import augment

    def augmented(pair, number):
        seed = tf.stack([tf.zeros((), tf.int64), 2 * number])  # augment() uses two consecutive seeds
        images = augment(pair[0], seed, flip=recipe.flip, shift=recipe.shift)
        return images, tf.one_hot(pair[1], examples.classes)

    data = tf.data.Dataset.from_tensor_slices((examples.inputs, examples.labels))
    data = data.shuffle(len(examples.inputs)).batch(batch, drop_remainder=True)
    data = tf.data.Dataset.zip(data, tf.data.Dataset.counter())
    return data.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _input_seconds(recipe: ScratchRecipe, examples, *, batch: int, passes: int) -> float:
    """Return the seconds to gather and augment the images of one step, as in the loop.

    Includes taking the maximum of each batch, so that TensorFlow computes all of it.
    """
    import tensorflow as tf

    from pipeline.training.augmentation import augment

    inputs, steps = tf.constant(examples.inputs), len(examples.train) // batch

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def run(epoch_rows):
        total, number = tf.zeros((), tf.int32), tf.zeros((), tf.int32)
        for rows in epoch_rows:
            images, flipped = tf.gather(inputs, rows), (rows + number) % 2 == 1 if recipe.alternate else None
            seed = tf.stack([0, 4 * number])
            images = augment(images, seed, flip=recipe.flip, shift=recipe.shift, flipped=flipped)
            total, number = total + tf.cast(tf.reduce_max(images), tf.int32), number + 1
        return total

    generator, seconds = np.random.Generator(np.random.PCG64(0)), []
    for _ in range(passes):
        epoch_rows = generator.permutation(examples.train)[: steps * batch].reshape(steps, batch)
        start = time.perf_counter()
        run(tf.constant(epoch_rows, tf.int32)).numpy()
        seconds.append((time.perf_counter() - start) / steps)
    return statistics.mean(seconds[1:])


SIDES: dict[str, Side] = {
    "keras-float32": Side("Keras `fit`", keras_seconds, "float32"),
    "keras-float32-xla": Side("Keras `fit`, compiled by XLA", keras_seconds, "float32", xla=True),
    "keras-bfloat16": Side("Keras `fit`", keras_seconds, "bfloat16"),
    "keras-bfloat16-xla": Side("Keras `fit`, compiled by XLA", keras_seconds, "bfloat16", xla=True),
    "headstart-float32": Side("Headstart", _headstart, "float32"),
    "headstart-bfloat16": Side("Headstart", _headstart, "bfloat16"),
}
BASE = "keras-float32"


def _table(results: dict[str, list[dict]]) -> str:
    """Return medians over the rounds, with ratios to Keras in float32."""
    lines = [
        "| side | precision | images/s | lowest … highest | ratio | pass, s | peak memory, MB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    base = statistics.median(row["rate"] for row in results[BASE]) if BASE in results else None
    for name, rounds in results.items():
        rates, side = [row["rate"] for row in rounds], SIDES[name]
        rate, ratio = statistics.median(rates), "–"
        if base:
            ratio = f"{rate / base:.2f}"
        seconds = statistics.median(row["pass"] for row in rounds)
        lines.append(
            f"| {side.title} | {side.precision} | {rate:,.0f} | {min(rates):,.0f} … {max(rates):,.0f} "
            f"| {ratio} | {seconds:.1f} | {max(row['memory'] for row in rounds):,.0f} |"
        )
    return "\n".join(lines)


def _input_table(results: dict[str, list[dict]]) -> str:
    """Return the cost of a step's images, "" if it was not measured."""
    rounds = [row for row in results.get("headstart-bfloat16", []) if "input" in row]
    if not rounds:
        return ""
    images, step = (statistics.median(row[key] for row in rounds) for key in ("input", "step"))
    share = 100 * statistics.median(row["input"] / row["step"] for row in rounds)
    lines = ["| gather and augment, ms | whole step, ms | share |", "|---:|---:|---:|"]
    return "\n".join([*lines, f"| {1000 * images:.1f} | {1000 * step:.1f} | {share:.1f} % |"])


def _facts(results: dict[str, list[dict]], options: argparse.Namespace) -> str:
    from pipeline import machine

    facts, versions, first = machine.describe(), machine.versions(), next(iter(results.values()))[0]
    names = ", ".join(f"{name} {versions[name]}" for name in ("tensorflow", "keras"))
    return (
        f"Recipe {options.recipe} on {options.dataset}, {options.passes - 1} passes of {first['steps']} "
        f"steps of {first['batch']} images, rounds: {options.rounds}; {facts['processor']}, "
        f"{facts['cores']} cores; {names}."
    )


if __name__ == "__main__":
    sys.exit(main())
