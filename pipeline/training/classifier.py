"""A Keras classifier that the training loop trains and evaluates."""

from __future__ import annotations

import functools
import math
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from pipeline.networks.build import logits_model
from pipeline.training.examples import Examples

EVALUATION_BATCH = 500


class Classifier:
    """A Keras model that returns probabilities and has a layer "logits".

    model returns probabilities and is saved; logits shares its weights and is trained. With inputs, an inner
    tensor of the model, only the layers after that tensor are trained and evaluated.
    """

    def __init__(self, model: keras.Model, inputs: KerasTensor | None = None):
        self._inputs = model.input if inputs is None else inputs
        self._full_model = model
        self.model = model if inputs is None else keras.Model(inputs, model.output)
        self._forward = tf.function(lambda batch: self.model(batch, training=False), reduce_retracing=True)

    @functools.cached_property
    def logits(self) -> keras.Model:
        """The model up to its logits."""
        return logits_model(self._full_model, self._inputs)

    def predict(self, inputs: np.ndarray, rows: np.ndarray, views: int = 1) -> np.ndarray:
        """Return class probabilities (n, C) float32 of the inputs at rows (n,), averaged over views."""
        count = len(inputs) // views
        by_view = (self._predict_rows(inputs, rows + count * view) for view in range(views))
        return cast("np.ndarray", sum(by_view)) / views

    def _predict_rows(self, inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        parts = [
            self._forward(tf.constant(inputs[rows[start : start + EVALUATION_BATCH]])).numpy()
            for start in range(0, len(rows), EVALUATION_BATCH)
        ]
        return np.concatenate(parts)

    def evaluate(self, examples: Examples, rows: np.ndarray) -> tuple[float, float]:
        """Return mean cross-entropy (nats) and accuracy (0 … 1) at rows (n,), NaN without rows."""
        if len(rows) == 0:
            return math.nan, math.nan
        probabilities = self.predict(examples.inputs, rows, examples.views)
        labels = examples.labels[rows]
        likelihoods = np.maximum(probabilities[np.arange(len(rows)), labels], np.finfo(np.float32).tiny)
        correct = probabilities.argmax(axis=1) == labels
        return float(-np.log(likelihoods).mean()), float(correct.mean())
