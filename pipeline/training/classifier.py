"""A Keras classifier that the training loop trains and evaluates."""

import functools
import math
from collections.abc import Sequence
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from pipeline.training.examples import Examples, Inputs
from pipeline.training.feed import prefetch

EVALUATION_BATCH, EVALUATION_BYTES = 500, 400 << 20  # images at a time; the largest maps that they may need


class Classifier:
    """A Keras model that returns probabilities and has a layer "logits".

    model returns probabilities and is saved; logits shares its weights and is trained. With inputs, an inner
    tensor of the model, only the layers after that tensor are trained and evaluated. input_size is the side
    to which the model enlarges images, if it does.
    """

    def __init__(self, model: keras.Model, inputs: KerasTensor | None = None, *, input_size: int = 0):
        self._inputs = model.input if inputs is None else inputs
        self._full_model, self._input_size = model, input_size
        self.model = model if inputs is None else keras.Model(inputs, model.output)
        self._forward = tf.function(lambda batch: self.model(batch, training=False), reduce_retracing=True)

    @functools.cached_property
    def logits(self) -> keras.Model:
        """The model up to its logits."""
        return keras.Model(self._inputs, self._full_model.get_layer("logits").output)

    def predict(self, inputs: Inputs, rows: np.ndarray, views: int = 1) -> np.ndarray:
        """Return probabilities (n, C) float32 at rows (n,), averaged over views, each a block of inputs."""
        return self.predict_blocks(inputs, [rows + len(inputs) // views * view for view in range(views)])

    def predict_blocks(self, inputs: Inputs, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mean of the probabilities (n, C) float32 of the inputs at each of several rows (n,)."""
        return cast("np.ndarray", sum(self._predict_rows(inputs, rows) for rows in blocks)) / len(blocks)

    def _predict_rows(self, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
        size = evaluation_batch(inputs.shape[1:], self._input_size)
        batches = prefetch(inputs[rows[start : start + size]] for start in range(0, len(rows), size))
        return np.concatenate([self._forward(tf.constant(batch)).numpy() for batch in batches])

    def evaluate(self, examples: Examples, rows: np.ndarray) -> tuple[float, float]:
        """Return mean cross-entropy (nats) and accuracy (0 … 1) at rows (n,), NaN without rows."""
        if len(rows) == 0:
            return math.nan, math.nan
        probabilities = self.predict(examples.inputs, rows, examples.views)
        labels = examples.labels[rows]
        return cross_entropy(probabilities, labels), float((probabilities.argmax(axis=1) == labels).mean())


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -ln p(label) in nats; probabilities (n, C) are clipped at 1e-38."""
    likelihood = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    return float(-np.log(likelihood).mean())


def evaluation_batch(shape: tuple[int, ...], input_size: int = 0) -> int:
    """Return how many inputs of a shape to compute at once: 500, or fewer if they need much memory.

    An image (H, W, 3) needs three maps of 64 float32 channels at a time, feature maps (H, W, C) three of C.
    input_size is the side to which a network enlarges images.
    """
    values = math.prod(shape[:-1]) * max(shape[-1], 64) if len(shape) > 1 else shape[0]
    values = max(values, 64 * input_size**2)
    return max(1, min(EVALUATION_BATCH, EVALUATION_BYTES // (3 * 4 * values)))
