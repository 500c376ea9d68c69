"""The training loop that all schemes share; each call of its TensorFlow graph runs many updates.

An epoch is a matrix of row numbers; their inputs are gathered ahead of the steps that need them (see feed).
"""

import itertools
import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import Diverged
from pipeline.progress import Progress, silent
from pipeline.training.augmentation import augment, mix_pairs
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples
from pipeline.training.feed import Feed, prefetch
from pipeline.training.history import History
from pipeline.training.optimizers import Multiplier, make_optimizer
from pipeline.training.stage import Stage
from pipeline.training.weight_copies import AVERAGES, EarlyStopping, Lookahead

REPORT_SECONDS = 1.0  # how long one call of the graph should take, so that progress is reported


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
    on_epoch_end: Callable[[History], None] | None = None,
) -> None:
    """Train the trainable weights of a classifier, and add a row to history every epochs_per_row epochs.

    The loss is cross-entropy with label smoothing; weights of examples count relative to their mean. Train
    loss and accuracy are means over a row's steps (with augmentation and dropout); val loss is plain
    cross-entropy after its last epoch. Raises Diverged if the loss or a weight is not finite; a fused ReLU
    turns NaN into 0, so the loss alone can hide it.

    With a checkpoint, the state is saved with each row, and an interrupted stage resumes after its last row
    with the same result. multipliers returns learning-rate multipliers by variable for a number of steps per
    epoch (see make_optimizer). An exception from on_epoch_end ends the training. With patience in the stage,
    training stops after so many epochs without better val accuracy and restores the best weights.
    """
    feed = Feed(examples, stage, seed=seed)
    steps, total = feed.steps, feed.steps * stage.epochs
    optimizer = make_optimizer(stage, total, multipliers=multipliers(steps) if multipliers else None)
    averages = AVERAGES[stage.averaging]
    average = averages(classifier.model, total) if averages else None
    update = _update_function(classifier.logits, feed, optimizer, average)
    stopping = EarlyStopping(classifier.model, stage.patience) if stage.patience else None
    owners = [classifier.model, optimizer, *(part for part in (average, stopping) if part)]
    state = [variable for owner in owners for variable in owner.variables]
    completed = checkpoint.restore(stage.name, state, history) if checkpoint else 0
    start, sums, epochs = time.perf_counter(), np.zeros(2), 0  # of the next row
    # The random numbers of completed epochs are drawn, so that the next epochs get theirs.
    for epoch, epoch_rows in itertools.islice(enumerate(feed.epochs()), completed, None):
        if stopping and stopping.should_stop:
            break
        done, epochs = 0, epochs + 1
        for inputs, rows in prefetch(feed.chunks(epoch_rows, first=epoch * steps)):
            called = time.perf_counter()
            sums += update(inputs, rows)
            step_seconds = max((time.perf_counter() - called) / len(rows), 1e-6)
            enough = math.ceil(REPORT_SECONDS / step_seconds)  # few in the first call, which builds the graph
            feed.chunk_steps = max(1, min(4 * feed.chunk_steps, enough, feed.largest_chunk))
            done += len(rows)
            _check_finite(stage, epoch, finite=math.isfinite(sums[0]), problem=f"the loss is {sums[0]}")
            progress(f"{stage.name}, epoch {epoch + 1}/{stage.epochs}", epoch * steps + done, total, "steps")
        if average and epoch + 1 == stage.epochs:
            average.finish()
        if epochs < stage.epochs_per_row and epoch + 1 < stage.epochs:
            continue
        finite = all(np.isfinite(array).all() for array in classifier.model.get_weights())
        _check_finite(stage, epoch, finite=finite, problem="weights are not finite numbers")
        val_loss, val_accuracy = classifier.evaluate(examples, examples.val)
        if stopping:
            stopping.after_epoch(val_accuracy)
        history.seconds += time.perf_counter() - start
        history.add(
            epochs,
            stage=stage.name,
            train_loss=float(sums[0] / (epochs * steps)),
            train_accuracy=float(sums[1] / (epochs * epoch_rows.size)),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=float(np.asarray(optimizer.learning_rate)),
        )
        if checkpoint:
            checkpoint.save(stage.name, epoch + 1, state, history)
        if on_epoch_end:
            on_epoch_end(history)
        start, sums, epochs = time.perf_counter(), np.zeros(2), 0
    if stopping:
        stopping.finish()


def _update_function(
    model: keras.Model, feed: Feed, optimizer: keras.optimizers.Optimizer, average: Lookahead | None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function from inputs (n, B, …) and rows (n, B) to sums of losses and correct predictions."""
    examples, stage = feed.examples, feed.stage
    labels, weights = tf.constant(examples.labels), model.trainable_variables
    optimizer.build(weights)
    smoothing, classes = stage.label_smoothing, examples.classes
    if (loss_weights := examples.loss_weights) is not None:
        loss_weights = tf.constant(loss_weights / loss_weights[examples.train].mean(), tf.float32)

    def step(batch: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_labels, number = tf.gather(labels, rows), tf.cast(optimizer.iterations, tf.int32)
        if feed.augments and not examples.cached_augmentation:
            batch = augment(batch, **feed.augmentation(rows, number))
        targets = tf.one_hot(batch_labels, classes) * (1 - smoothing) + smoothing / classes
        if loss_weights is not None:
            targets *= tf.gather(loss_weights, rows)[:, None]
        if stage.mixup:
            batch, targets = mix_pairs(batch, targets, feed.step_seed(number), stage.mixup)
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)
            if loss_weights is None:
                losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            else:  # the targets of an example sum to its weight
                losses = -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=1)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, weights), weights)
        if average:
            average.after_update(number + 1)
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1) == batch_labels, tf.float32))
        return loss, correct

    shape = [None, feed.batch_size]
    inputs = tf.TensorSpec([*shape, *examples.inputs.shape[1:]], examples.inputs.dtype)

    @tf.function(input_signature=[inputs, tf.TensorSpec(shape, tf.int32)])
    def run(inputs: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        sums = tf.zeros(2, tf.float64)  # float32 sums would depend on how many steps a call runs
        for number in tf.range(tf.shape(rows)[0]):
            sums += tf.cast(tf.stack(step(inputs[number], rows[number])), tf.float64)
        return sums

    return lambda inputs, rows: run(tf.constant(inputs), tf.constant(rows, tf.int32)).numpy()


def _check_finite(stage: Stage, epoch: int, *, finite: bool, problem: str) -> None:
    if not finite:
        raise Diverged(
            f"{stage.name}: {problem} in epoch {epoch + 1}; "
            f"try a learning rate below {stage.learning_rate:g}, or a longer warmup"
        )
