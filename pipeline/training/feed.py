"""Gather batches from arrays in memory or from mapped files, ahead of the step that needs them."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from pipeline.training.augmentation import draw_views
from pipeline.training.examples import Examples
from pipeline.training.stage import Stage

CHUNK_BYTES = 64 << 20  # of the inputs that are gathered at once; two chunks are in memory

Value = TypeVar("Value")


def prefetch(values: Iterable[Value]) -> Iterator[Value]:
    """Yield values, none of which is None; a thread computes the next one while one is in use."""
    iterator = iter(values)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(lambda: next(iterator, None))
        while (value := ahead.result()) is not None:
            ahead = pool.submit(lambda: next(iterator, None))
            yield value


class Feed:
    """The batches of a stage of training: its rows, their inputs, and random flips and shifts."""

    def __init__(self, examples: Examples, stage: Stage, *, seed: int):
        self.examples, self.stage, self._seed = examples, stage, seed
        self._count = len(examples.labels)
        self.batch_size = min(stage.batch_size, len(examples.train))
        self.steps = len(examples.train) // self.batch_size  # of an epoch
        draws = np.random.Generator(np.random.PCG64([seed, stage.salt, 1])).integers(0, 2, self._count)
        self._parity = tf.constant(draws, tf.int32)  # whether an image is flipped in even or in odd epochs
        self.augments = bool(stage.flip or stage.shift)
        signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)]
        self._views = tf.function(self._draw_views, input_signature=signature)
        row_bytes = examples.inputs.dtype.itemsize * int(np.prod(examples.inputs.shape[1:]))
        self.largest_chunk = max(1, CHUNK_BYTES // (row_bytes * self.batch_size))  # in steps
        self.chunk_steps = 1  # of the next chunk that is asked for

    def epochs(self) -> Iterator[np.ndarray]:
        """Yield the rows (steps, B) of the inputs in each epoch: another order, and random views."""
        generator = np.random.Generator(np.random.PCG64([self._seed, self.stage.salt]))
        for _ in range(self.stage.epochs):
            rows = generator.permutation(self.examples.train)[: self.steps * self.batch_size]
            if self.examples.views > 1:
                rows = rows + self._count * generator.integers(0, self.examples.views, rows.shape)
            yield rows.reshape(self.steps, self.batch_size)

    def chunks(self, rows: np.ndarray, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the inputs (n, B, …) of chunk_steps steps at a time, and their rows (n, B) of the data set.

        rows (steps, B) are an epoch's rows of the inputs; first is the number of its first step.
        """
        start = 0
        while start < len(rows):
            chunk = gathered = rows[start : start + self.chunk_steps]
            if self.examples.cached_augmentation and self.augments:
                number = tf.constant(first + start, tf.int32)
                gathered = self._views(tf.constant(chunk, tf.int32), number).numpy()
            inputs = self.examples.inputs[gathered.ravel()]
            yield inputs.reshape(*chunk.shape, *inputs.shape[1:]), chunk % self._count
            start += len(chunk)

    def augmentation(self, rows: tf.Tensor, number: tf.Tensor) -> dict[str, Any]:
        """Return the options of augmentation for rows (B,) of the data set in a step."""
        stage = self.stage
        options: dict[str, Any] = {"flip": stage.flip, "shift": stage.shift, "seed": self.step_seed(number)}
        if stage.alternate:
            options["flipped"] = (tf.gather(self._parity, rows) + number // self.steps) % 2 == 1
        return options

    def step_seed(self, number: tf.Tensor) -> tf.Tensor:
        """Return the seed (2,) int32 of a step's random numbers; augment also uses the one after it."""
        return tf.stack([self._seed, 4 * number + 2 * self.stage.salt])

    def _draw_views(self, rows: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        def draw(step: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            chosen = draw_views(tf.size(step[0]), **self.augmentation(step[0], step[1]))
            return step[0] + self._count * chosen

        numbers = first + tf.range(tf.shape(rows)[0])
        return tf.map_fn(draw, (rows, numbers), fn_output_signature=tf.int32)
