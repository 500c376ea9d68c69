"""The training loop that all schemes share: whole stretches of updates inside one TensorFlow graph.

The images (uint8) or features (float32) of all splits lie in memory as one tensor; an epoch is a matrix of
row numbers, and a batch is gathered inside the graph. Order, augmentation and dropout follow from the seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import Diverged
from pipeline.progress import Progress, silent
from pipeline.training.augmentation import augmented, drawn_views
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples
from pipeline.training.history import History
from pipeline.training.kept_weights import AVERAGES, Lookahead, Patience
from pipeline.training.optimizers import Multiplier, make_optimizer
from pipeline.training.stage import Stage

Update = Callable[[np.ndarray], np.ndarray]  # from row numbers (n, B) to sums over n steps

REPORT_SECONDS = 1.0  # how long one call into the graph should last, so that progress can be shown


def fit(
    classifier: Classifier,
    examples: Examples,
    stage: Stage,
    *,
    seed: int,
    history: History,
    progress: Progress = silent,
    checkpoint: Checkpoint | None = None,
    multipliers: Callable[[int], dict[str, Multiplier]] | None = None,
    watch: Callable[[History], None] | None = None,
) -> None:
    """Train the weights of a classifier that are trainable now, and add a row an epoch to history.

    The loss is cross-entropy with label smoothing; train loss and accuracy are means over the epoch as it
    went (with augmentation and dropout), val loss is plain cross-entropy after it. Raises Diverged when the
    loss or a weight is not a finite number; a fused ReLU turns NaN into 0, so the loss alone can hide it.

    With a checkpoint the state after each epoch is kept there, and a stage that was broken off goes on
    behind its last whole epoch as if nothing had happened. multipliers gives factors of the rate by variable,
    told how many updates an epoch has (see make_optimizer). watch is called after each epoch; what it raises
    ends the training. With the stage's patience it ends after so many epochs without a better accuracy on
    val, and the best epoch's weights are left.
    """
    batch = min(stage.batch_size, len(examples.train))
    steps = len(examples.train) // batch
    total = steps * stage.epochs
    optimizer = make_optimizer(stage, total, multipliers=multipliers(steps) if multipliers else None)
    averages = AVERAGES[stage.averaging]
    average = averages(classifier.model, total) if averages else None
    update = _update_function(classifier.logits, examples, stage, optimizer, average, seed=seed, steps=steps)
    generator = np.random.Generator(np.random.PCG64([seed, stage.salt]))
    pace = _CallLength()
    stopping = Patience(classifier.model, stage.patience) if stage.patience else None
    keepers = [classifier.model, optimizer, *(one for one in (average, stopping) if one)]
    state = [variable for keeper in keepers for variable in keeper.variables]
    done_before = checkpoint.restore(stage.name, state, history) if checkpoint else 0
    for epoch in range(stage.epochs):
        began = time.perf_counter()
        order = generator.permutation(examples.train)[: steps * batch].reshape(steps, batch)
        order = examples.shown(order, generator)
        if epoch < done_before:  # drawn all the same, so that what follows is what it would have been
            continue
        if stopping and stopping.over:
            break
        sums = np.zeros(2)
        for done, found in pace.over(order, update):
            sums += found
            _refuse_divergence(stage, epoch, finite=math.isfinite(sums[0]), found=f"the loss is {sums[0]}")
            progress(f"{stage.name}, epoch {epoch + 1}/{stage.epochs}", epoch * steps + done, total, "steps")
        if average and epoch + 1 == stage.epochs:
            average.end()
        sound = all(np.isfinite(array).all() for array in classifier.model.get_weights())
        _refuse_divergence(stage, epoch, finite=sound, found="weights are not finite numbers")
        val_loss, val_accuracy = classifier.evaluate(examples, examples.val)
        if stopping:
            stopping.after(val_accuracy)
        history.seconds += time.perf_counter() - began
        history.add(
            stage=stage.name,
            train_loss=float(sums[0] / steps),
            train_accuracy=float(sums[1] / (steps * batch)),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=float(np.asarray(optimizer.learning_rate)),
        )
        if checkpoint:
            checkpoint.keep(stage.name, epoch + 1, state, history)
        if watch:
            watch(history)
    if stopping:
        stopping.end()


class _CallLength:
    """How many steps one call into the graph takes, so that it lasts about REPORT_SECONDS."""

    def __init__(self) -> None:
        self._steps, self._built = 1, False

    def over(self, order: np.ndarray, update: Update) -> Iterator[tuple[int, np.ndarray]]:
        """Yield how many of the steps of an order are done, and the sums of the last call."""
        done = 0
        while done < len(order):
            chunk, began = order[done : done + self._steps], time.perf_counter()
            sums = update(chunk)
            each = (time.perf_counter() - began) / len(chunk)
            if self._built:
                self._steps = max(1, min(4 * self._steps, math.ceil(REPORT_SECONDS / max(each, 1e-6))))
            self._built = True  # by the first call, which takes longer
            done += len(chunk)
            yield done, sums


def _update_function(
    logits: keras.Model,
    examples: Examples,
    stage: Stage,
    optimizer: keras.optimizers.Optimizer,
    average: Lookahead | None,
    *,
    seed: int,
    steps: int,
) -> Update:
    """Return a function from row numbers (n, B) to the sum of losses over n steps and of right answers.

    steps is how many there are in an epoch.
    """
    inputs = tf.constant(examples.inputs)
    labels = tf.tile(tf.constant(examples.labels), [examples.views])
    weights = logits.trainable_variables
    optimizer.build(weights)
    smoothing, classes = stage.label_smoothing, examples.classes
    count = len(examples.labels)
    draws = np.random.Generator(np.random.PCG64([seed, stage.salt, 1])).integers(0, 2, count)
    moves: dict[str, Any] = {"flip": stage.flip, "shift": stage.shift}
    parity = tf.constant(draws, tf.int32)  # whether an image is mirrored in even or in odd epochs

    def step(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wanted, number = tf.gather(labels, rows), tf.cast(optimizer.iterations, tf.int32)
        if stage.flip or stage.shift:
            drawn_by = tf.stack([seed, 4 * number + 2 * stage.salt])  # augmented() uses two seeds of it
            how = moves | {"seed": drawn_by}
            if stage.alternate:
                how["mirrored"] = (tf.gather(parity, rows % count) + number // steps) % 2 == 1
            if examples.varied:
                batch = tf.gather(inputs, rows + count * drawn_views(tf.size(rows), **how))
            else:
                batch = augmented(tf.gather(inputs, rows), **how)
        else:
            batch = tf.gather(inputs, rows)
        targets = tf.one_hot(wanted, classes) * (1 - smoothing) + smoothing / classes
        with tf.GradientTape() as tape:
            answers = logits(batch, training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, answers))
        optimizer.apply(tape.gradient(loss, weights), weights)
        if average:
            average.after(number + 1)
        right = tf.reduce_sum(tf.cast(tf.argmax(answers, axis=1) == wanted, tf.float32))
        return loss, right

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def run(order: tf.Tensor) -> tf.Tensor:
        sums = tf.zeros(2, tf.float64)  # in float32 they would depend on how many steps a call takes
        for rows in order:
            sums += tf.cast(tf.stack(step(rows)), tf.float64)
        return sums

    return lambda order: run(tf.constant(order, tf.int32)).numpy()


def _refuse_divergence(stage: Stage, epoch: int, *, finite: bool, found: str) -> None:
    if not finite:
        raise Diverged(
            f"{stage.name}: {found} in epoch {epoch + 1}; "
            f"try a learning rate below {stage.learning_rate:g}, or a longer warmup"
        )
