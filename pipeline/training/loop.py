"""The training loop that all schemes share: whole stretches of updates inside one TensorFlow graph.

The images (uint8) or features (float32) of all splits lie in memory as one tensor; an epoch is a matrix of
row numbers, and a batch is gathered inside the graph. Order, augmentation and dropout follow from the seed.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from pipeline.datasets.labels import ALL_LABELS, given_rows
from pipeline.errors import Diverged
from pipeline.networks.build import logits_model
from pipeline.progress import Progress, silent
from pipeline.training.augment import augmented, drawn_views
from pipeline.training.averaging import AVERAGES, Lookahead, NoAverage
from pipeline.training.optimizers import Pace, make_optimizer
from pipeline.training.stopping import NoPatience, Patience

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf
    from keras import KerasTensor

    from pipeline.datasets.store import ImageStore
    from pipeline.features.store import FeatureStore
    from pipeline.training.checkpoint import Checkpoint
    from pipeline.training.recipes import Training

    Update = Callable[[np.ndarray], np.ndarray]  # from row numbers (n, B) to sums over n steps

EVALUATION_BATCH = 500
REPORT_SECONDS = 1.0  # how long one call into the graph should last, so that progress can be shown


@dataclass(frozen=True)
class Examples:
    """What a classifier learns from: inputs (N, …) uint8 images or float32 features, labels (N,) int64.

    train and val are positions (n,) in them; classes is the number of classes. With several views, inputs
    has as many blocks of len(labels) rows, one block a view: training draws a view of each example anew in
    every epoch, answers are averaged over the views. Where they are varied, inputs has a block for each of
    augment.variation_views instead: a step draws among them what it would do to images, and the first,
    which is not varied, answers.
    """

    inputs: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    classes: int
    views: int = 1
    share: float = 1.0  # of all training images, that train is
    varied: bool = False

    @classmethod
    def of(
        cls,
        store: ImageStore | FeatureStore,
        inputs: np.ndarray,
        classes: int,
        views: int = 1,
        *,
        given: str = ALL_LABELS,
    ) -> Examples:
        """Return the examples of an image or feature store whose rows inputs are, a block for each view.

        given says which training labels there are (see datasets.labels).
        """
        rows = store.rows("train")
        train = given_rows(store.labels, rows, given, store.index)
        return cls(inputs, store.labels, train, store.rows("val"), classes, views, len(train) / len(rows))

    def epochs(self, recipe: Training) -> int:
        """Return how many epochs a recipe takes here: epochs / sqrt(share) where it stretches over fewer."""
        return math.ceil(recipe.epochs / math.sqrt(self.share)) if recipe.stretch else recipe.epochs

    def with_val(self) -> Examples:
        """Return the examples with val among what is learnt from, and nothing left as val."""
        import numpy as np

        both = np.sort(np.concatenate([self.train, self.val]))
        return replace(self, train=both, val=self.val[:0])

    def shown(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return positions in inputs of a randomly drawn view of each of rows."""
        if self.views == 1:
            return rows
        return rows + len(self.labels) * generator.integers(0, self.views, rows.shape)


@dataclass(frozen=True)
class Stage:
    """One stretch of training: a name for the history, and the settings that hold in it."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    lr_schedule: str
    warmup: float
    weight_decay: float
    label_smoothing: float
    flip: bool = False
    alternate: bool = False
    shift: int = 0
    momentum: float = 0.9
    decay_biases: bool = False
    averaging: str = "none"
    patience: int = 0
    salt: int = 0  # makes the random order of one stage differ from another's

    @classmethod
    def of(cls, recipe: Training, name: str, **changes: Any) -> Stage:
        """Return a stage with the settings of a recipe, some of them changed."""
        known = {key: getattr(recipe, key) for key in cls.__dataclass_fields__ if hasattr(recipe, key)}
        return cls(**{**known, "name": name, **changes})


@dataclass
class History:
    """One row an epoch, over all stages of a run; seconds count from the start of training."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, **row: Any) -> None:
        """Append one epoch; its number follows from the rows before."""
        self.rows.append({"epoch": len(self.rows) + 1, "seconds": round(self.seconds, 3), **row})


class Classifier:
    """A Keras model of probabilities, with its answering graph; what is trained has a layer "logits".

    model gives probabilities and is what gets saved; logits shares its weights and is what gets trained. With
    inputs, a tensor inside of the model, only what lies behind it is asked and trained.
    """

    def __init__(self, model: keras.Model, inputs: KerasTensor | None = None):
        import keras
        import tensorflow as tf

        self._inputs = model.input if inputs is None else inputs
        self._whole = model
        self.model = model if inputs is None else keras.Model(inputs, model.output)
        self._forward = tf.function(lambda batch: self.model(batch, training=False), reduce_retracing=True)

    @functools.cached_property
    def logits(self) -> keras.Model:
        """The part of the model that ends in logits."""
        return logits_model(self._whole, self._inputs)

    def predict(self, inputs: np.ndarray, rows: np.ndarray, views: int = 1) -> np.ndarray:
        """Return class probabilities (n, C) float32 of the inputs at rows (n,), averaged over the views."""
        apart = len(inputs) // views
        answers = (self._answers(inputs, rows + apart * view) for view in range(views))
        return cast("np.ndarray", sum(answers)) / views

    def _answers(self, inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        import numpy as np
        import tensorflow as tf

        parts = [
            self._forward(tf.constant(inputs[rows[start : start + EVALUATION_BATCH]])).numpy()
            for start in range(0, len(rows), EVALUATION_BATCH)
        ]
        return np.concatenate(parts)

    def evaluate(self, examples: Examples, rows: np.ndarray) -> tuple[float, float]:
        """Return mean cross-entropy (nats) and accuracy (0 … 1) over examples at rows (n,), NaN for none."""
        import numpy as np

        if len(rows) == 0:
            return math.nan, math.nan
        probabilities = self.predict(examples.inputs, rows, examples.views)
        labels = examples.labels[rows]
        likelihood = np.maximum(probabilities[np.arange(len(rows)), labels], np.finfo(np.float32).tiny)
        right = probabilities.argmax(axis=1) == labels
        return float(-np.log(likelihood).mean()), float(right.mean())


def fit(
    classifier: Classifier,
    examples: Examples,
    stage: Stage,
    *,
    seed: int,
    history: History,
    progress: Progress = silent,
    checkpoint: Checkpoint | None = None,
    paces: Callable[[int], dict[str, Pace]] | None = None,
    watch: Callable[[History], None] | None = None,
) -> None:
    """Train the weights of a classifier that are trainable now, and add a row an epoch to history.

    The loss is cross-entropy with label smoothing; train loss and accuracy are means over the epoch as it
    went (with augmentation and dropout), val loss is plain cross-entropy after it. Raises Diverged when the
    loss or a weight is not a finite number; a fused ReLU turns NaN into 0, so the loss alone can hide it.

    With a checkpoint the state after each epoch is kept there, and a stage that was broken off goes on
    behind its last whole epoch as if nothing had happened. paces gives factors of the rate by variable,
    told how many updates an epoch has (see make_optimizer). watch is called after each epoch; what it raises
    ends the training. With the stage's patience it ends after so many epochs without a better accuracy on
    val, and the best epoch's weights are left.
    """
    import numpy as np

    batch = min(stage.batch_size, len(examples.train))
    steps = len(examples.train) // batch
    total = steps * stage.epochs
    optimizer = _optimizer(stage, total, paces(steps) if paces else None)
    average = AVERAGES[stage.averaging](classifier.model, total)
    update = _update_function(classifier.logits, examples, stage, optimizer, average, seed=seed, steps=steps)
    generator = np.random.Generator(np.random.PCG64([seed, stage.salt]))
    pace = _Pace()
    stopping = Patience(classifier.model, stage.patience) if stage.patience else NoPatience()
    state = [*classifier.model.variables, *optimizer.variables, *average.variables, *stopping.variables]
    done_before = checkpoint.restore(stage.name, state, history) if checkpoint else 0
    for epoch in range(stage.epochs):
        began = time.perf_counter()
        order = generator.permutation(examples.train)[: steps * batch].reshape(steps, batch)
        order = examples.shown(order, generator)
        if epoch < done_before:  # drawn all the same, so that what follows is what it would have been
            continue
        if stopping.over:
            break
        sums = np.zeros(2)
        for done, found in pace.over(order, update):
            sums += found
            _refuse_divergence(stage, epoch, finite=math.isfinite(sums[0]), found=f"the loss is {sums[0]}")
            progress(f"{stage.name}, epoch {epoch + 1}/{stage.epochs}", epoch * steps + done, total, "steps")
        if epoch + 1 == stage.epochs:
            average.end()
        sound = all(np.isfinite(array).all() for array in classifier.model.get_weights())
        _refuse_divergence(stage, epoch, finite=sound, found="weights are not finite numbers")
        val_loss, val_accuracy = classifier.evaluate(examples, examples.val)
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
    stopping.end()


class _Pace:
    """How many steps one call into the graph takes, so that it lasts about REPORT_SECONDS."""

    def __init__(self) -> None:
        self.steps = 1
        self._calls = 0

    def over(self, order: np.ndarray, update: Update) -> Iterator[tuple[int, np.ndarray]]:
        """Yield how many of the steps of an order are done, and the sums of the last call."""
        done = 0
        while done < len(order):
            chunk = order[done : done + self.steps]
            sums = self._timed(update, chunk)
            done += len(chunk)
            yield done, sums

    def _timed(self, update: Update, chunk: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        sums = update(chunk)
        self._calls += 1
        if self._calls > 1:  # the first call builds the graph
            each = (time.perf_counter() - began) / len(chunk)
            self.steps = max(1, min(4 * self.steps, math.ceil(REPORT_SECONDS / max(each, 1e-6))))
        return sums


def _optimizer(stage: Stage, updates: int, paces: dict[str, Pace] | None) -> keras.optimizers.Optimizer:
    return make_optimizer(
        optimizer=stage.optimizer,
        learning_rate=stage.learning_rate,
        lr_schedule=stage.lr_schedule,
        warmup=stage.warmup,
        weight_decay=stage.weight_decay,
        updates=updates,
        momentum=stage.momentum,
        decay_biases=stage.decay_biases,
        paces=paces,
    )


def _update_function(
    logits: keras.Model,
    examples: Examples,
    stage: Stage,
    optimizer: keras.optimizers.Optimizer,
    average: NoAverage | Lookahead,
    *,
    seed: int,
    steps: int,
) -> Update:
    """Return a function from row numbers (n, B) to the sum of losses over n steps and of right answers.

    steps is how many there are in an epoch.
    """
    import numpy as np
    import tensorflow as tf

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
