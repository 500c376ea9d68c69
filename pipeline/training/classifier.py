"""A Keras classifier as the loop trains and evaluates it."""

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
    """A Keras model of probabilities, with its answering graph; what is trained has a layer "logits".

    model gives probabilities and is what gets saved; logits shares its weights and is what gets trained. With
    inputs, a tensor inside of the model, only what lies behind it is asked and trained.
    """

    def __init__(self, model: keras.Model, inputs: KerasTensor | None = None):
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
        parts = [
            self._forward(tf.constant(inputs[rows[start : start + EVALUATION_BATCH]])).numpy()
            for start in range(0, len(rows), EVALUATION_BATCH)
        ]
        return np.concatenate(parts)

    def evaluate(self, examples: Examples, rows: np.ndarray) -> tuple[float, float]:
        """Return mean cross-entropy (nats) and accuracy (0 … 1) over examples at rows (n,), NaN for none."""
        if len(rows) == 0:
            return math.nan, math.nan
        probabilities = self.predict(examples.inputs, rows, examples.views)
        labels = examples.labels[rows]
        likelihood = np.maximum(probabilities[np.arange(len(rows)), labels], np.finfo(np.float32).tiny)
        right = probabilities.argmax(axis=1) == labels
        return float(-np.log(likelihood).mean()), float(right.mean())
