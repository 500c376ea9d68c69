"""Training steps of a from-scratch recipe against Keras `fit`, in images per second; in one run, in turn.

    python benchmarks/training.py [--recipe fast] [--dataset cifar10] [--images N] [--passes N] [--rounds N]
                                  [--batch N] [--sides NAME,...]

All sides train the same network from the same weights on the same uint8 images in memory, with flips, shifts,
batches, loss, optimiser and course of the rate of the recipe; each runs in a process of its own. What only
the loop does (averaging, single variables' own rates) costs it time and not Keras. Operations are
deterministic on all sides without XLA, which costs Keras nothing that could be measured. The first pass,
which builds the graph, does not count.

- keras-float32, keras-bfloat16: Keras `compile` and `fit` of the network as it is saved, on a tf.data
  pipeline that shuffles, batches, varies in parallel and prefetches; without XLA, which is the faster way on
  a processor;
- keras-float32-xla, keras-bfloat16-xla: the same compiled by XLA, which jit_compile="auto" leaves off on a
  processor; several times slower there, so only where --sides names them;
- headstart-float32, headstart-bfloat16: the project's own loop on the quick copy, as TrainFromScratch runs
  it.

A pass of Keras counts from its first step on: TensorFlow 2.21 can wait up to five seconds before it (the
destructor of the last pass's data iterator joins a sleeping thread). A pass of the loop counts in full.

A second table says what gathering and varying the images costs headstart-bfloat16: the same batches of a pass
without a network, as a share of the whole step, of which it should be less than 5 %.
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
from dataclasses import dataclass, replace

import luigi
import numpy as np

from pipeline.recipes.from_scratch import SCRATCH_RECIPES, ScratchRecipe


@dataclass(frozen=True)
class Side:
    """One way to train: who runs the steps, in what precision, whether XLA compiles them."""

    title: str
    run: Callable[..., list[float]]
    precision: str
    xla: bool = False


def main() -> int:
    """Run all sides in turn and print the tables."""
    options = _options()
    if options.side:
        print(json.dumps(_measured(SIDES[options.side], options)))
        return 0
    sides = options.sides.split(",")
    if unknown := [side for side in sides if side not in SIDES]:
        sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {unknown[0]!r}")
    if options.passes < 2:
        sys.exit(f"--passes: expected 2 or more, since the first does not count, received {options.passes}")
    folder, found = _dataset(options.dataset), {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides:
            found[side].append(_in_process(side, folder))
            rate = found[side][-1]["rate"]
            print(f"round {number + 1}: {side}: {rate:.0f} images/s", file=sys.stderr)
    print("\n\n".join(part for part in (_table(found), _input_table(found), _facts(found, options)) if part))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = ",".join(name for name, side in SIDES.items() if not side.xla)
    parser.add_argument("--recipe", default="fast", choices=SCRATCH_RECIPES, help="(default: fast)")
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--images", type=int, default=8192, help="training images of a pass (default: 8192)")
    parser.add_argument("--passes", type=int, default=3, help="passes, the first uncounted (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of all sides in turn (default: 1)")
    parser.add_argument("--batch", type=int, help="images of a step (default: the recipe's)")
    parser.add_argument("--sides", default=usual, help=f"some of {', '.join(SIDES)} (default: without XLA)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _dataset(name: str) -> str:
    from tasks import PrepareDataset

    task = PrepareDataset(dataset=name)
    if not luigi.build([task], local_scheduler=True, log_level="WARNING"):
        sys.exit("the data set could not be prepared, see above")
    return str(task.folder)


def _in_process(side: str, folder: str) -> dict:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", folder]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measured(side: Side, options: argparse.Namespace) -> dict:
    """Return images a second over all passes but the first, seconds of a pass and a step, peak memory in MB.

    In the quickest way of training, input holds the seconds of the images of one step as well.
    """
    from pipeline import machine

    start_process(side.precision, xla=side.xla)
    recipe = SCRATCH_RECIPES[options.recipe]
    examples = training_examples(Images(options.folder, options.images))
    batch = min(options.batch or recipe.batch_size, len(examples.train))
    steps = len(examples.train) // batch
    model = _network(recipe, examples)
    how = {"batch": batch, "passes": options.passes, "xla": side.xla}
    each = statistics.mean(side.run(recipe, model, examples, **how))
    rate, memory = batch / each, machine.peak_memory_mb()
    found = {"rate": rate, "pass": each * steps, "step": each, "memory": memory}
    found |= {"batch": batch, "steps": steps}
    if side is SIDES["headstart-bfloat16"]:
        found["input"] = _input_seconds(recipe, examples, batch=batch, passes=options.passes)
    return found


def start_process(precision: str, *, xla: bool = False) -> None:
    """Set seeds and precision as the project does; Keras refuses XLA where operations are deterministic."""
    import keras

    from pipeline import numerics

    if not xla:
        numerics.start(seed=0, precision=precision)
        return
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")


@dataclass(frozen=True)
class Images:
    """The folder of a prepared data set, and how many of its training images are taken."""

    folder: str
    count: int


def training_examples(images: Images):
    """Return the first training images of a data set, and none to validate on."""
    from pipeline.datasets.store import ImageStore
    from pipeline.training.examples import Examples

    store = ImageStore(images.folder)
    rows = store.rows("train")[: images.count]
    pixels, none = store.images()[rows], np.arange(0)
    return Examples(pixels, store.labels[rows], np.arange(len(rows)), none, len(store.class_names))


def _network(recipe: ScratchRecipe, examples):
    from pipeline.networks.initializers import WHITENED_IMAGES
    from pipeline.schemes.from_scratch import build_network, channel_moments, start_weights

    mean, variance = channel_moments(examples.inputs)
    size = examples.inputs.shape[1]
    model = build_network(recipe, mean=mean, variance=variance, size=size, classes=examples.classes)
    start_weights(recipe, model, examples.inputs[:WHITENED_IMAGES])
    return model


def _headstart(recipe: ScratchRecipe, model, examples, *, batch: int, passes: int, xla: bool) -> list[float]:
    """Return the seconds of a step, one number for each pass of the loop but the first."""
    from pipeline.networks.fast_copy import quick_copy
    from pipeline.schemes.from_scratch import lr_multipliers, stage_of
    from pipeline.training.classifier import Classifier
    from pipeline.training.history import History
    from pipeline.training.loop import fit

    network, history = Classifier(quick_copy(model)), History()
    stage = replace(stage_of(recipe, passes), batch_size=batch)

    def multipliers(steps: int):
        return lr_multipliers(recipe, network.model, steps)

    fit(network, examples, stage, seed=0, history=history, multipliers=multipliers)
    seconds = np.diff([row["seconds"] for row in history.rows])
    return (seconds / (len(examples.train) // batch)).tolist()


def keras_seconds(recipe, model, examples, *, batch: int, passes: int, xla: bool = False) -> list[float]:
    """Return the seconds of a step, one number for each pass of Keras `fit` but the first."""
    import keras

    from pipeline.schemes.from_scratch import stage_of
    from pipeline.training.optimizers import make_optimizer

    steps = len(examples.train) // batch
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    optimizer = make_optimizer(stage_of(recipe, passes), steps * passes, quick=False)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=xla)
    began, ended = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                began.append(time.perf_counter())

        def on_epoch_end(self, epoch, logs=None):
            ended.append(time.perf_counter())

    model.fit(_batches(recipe, examples, batch), epochs=passes, verbose=0, callbacks=[Watch()])
    return [(last - first) / steps for first, last in zip(began[1:], ended[1:], strict=True)]


def _batches(recipe, examples, batch: int):
    """Return varied images and one-hot labels as a tf.data pipeline.

    Seeds come from a counter: TensorFlow runs random operations with a state one at a time where
    operations are deterministic, which would slow Keras down.
    """
    import tensorflow as tf

    from pipeline.training.augmentation import augmented

    def varied(pair, number):
        seed = tf.stack([tf.zeros((), tf.int64), 2 * number])  # augmented() uses two seeds of it
        images = augmented(pair[0], seed, flip=recipe.flip, shift=recipe.shift)
        return images, tf.one_hot(pair[1], examples.classes)

    data = tf.data.Dataset.from_tensor_slices((examples.inputs, examples.labels))
    data = data.shuffle(len(examples.inputs)).batch(batch, drop_remainder=True)
    data = tf.data.Dataset.zip(data, tf.data.Dataset.counter())
    return data.map(varied, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _input_seconds(recipe: ScratchRecipe, examples, *, batch: int, passes: int) -> float:
    """Return the seconds in which the images of one step are gathered and varied, as the loop does it.

    The brightest pixel of each batch is looked for, so that all of it is made; that counts as well.
    """
    import tensorflow as tf

    from pipeline.training.augmentation import augmented

    inputs, steps = tf.constant(examples.inputs), len(examples.train) // batch

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def run(order):
        total, number = tf.zeros((), tf.int32), tf.zeros((), tf.int32)
        for rows in order:
            images, mirrored = tf.gather(inputs, rows), (rows + number) % 2 == 1 if recipe.alternate else None
            seed = tf.stack([0, 4 * number])
            images = augmented(images, seed, flip=recipe.flip, shift=recipe.shift, mirrored=mirrored)
            total, number = total + tf.cast(tf.reduce_max(images), tf.int32), number + 1
        return total

    generator, seconds = np.random.Generator(np.random.PCG64(0)), []
    for _ in range(passes):
        order = generator.permutation(examples.train)[: steps * batch].reshape(steps, batch)
        began = time.perf_counter()
        run(tf.constant(order, tf.int32)).numpy()
        seconds.append((time.perf_counter() - began) / steps)
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


def _table(found: dict[str, list[dict]]) -> str:
    """Return medians over the rounds, with ratios to Keras in float32."""
    lines = [
        "| how | precision | images/s | lowest … highest | ratio | a pass, s | peak memory, MB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    base = statistics.median(row["rate"] for row in found[BASE]) if BASE in found else None
    for name, rounds in found.items():
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


def _input_table(found: dict[str, list[dict]]) -> str:
    """Return what the images of a step cost, "" where that was not measured."""
    rounds = [row for row in found.get("headstart-bfloat16", []) if "input" in row]
    if not rounds:
        return ""
    made, step = (statistics.median(row[key] for row in rounds) for key in ("input", "step"))
    share = 100 * statistics.median(row["input"] / row["step"] for row in rounds)
    lines = ["| gather and vary, ms | whole step, ms | share |", "|---:|---:|---:|"]
    return "\n".join([*lines, f"| {1000 * made:.1f} | {1000 * step:.1f} | {share:.1f} % |"])


def _facts(found: dict[str, list[dict]], options: argparse.Namespace) -> str:
    from pipeline import machine

    facts, versions, first = machine.describe(), machine.versions(), next(iter(found.values()))[0]
    names = ", ".join(f"{name} {versions[name]}" for name in ("tensorflow", "keras"))
    return (
        f"Recipe {options.recipe} on {options.dataset}, {options.passes - 1} passes of {first['steps']} "
        f"steps of {first['batch']} images, rounds: {options.rounds}; {facts['processor']}, "
        f"{facts['cores']} cores; {names}."
    )


if __name__ == "__main__":
    sys.exit(main())
