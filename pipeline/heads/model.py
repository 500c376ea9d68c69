"""Keras models of heads: standardize features, compute logits, turn them into probabilities."""

from __future__ import annotations

import keras
import numpy as np
from keras import KerasTensor

from pipeline.heads.data import HeadData


def standardized_input(data: HeadData) -> tuple[KerasTensor, KerasTensor]:
    """Return an input of features (B, D) and the same features, standardized by the training rows."""
    mean, variance = data.moments
    features = keras.Input((len(mean),), name="features")
    standardize = keras.layers.Normalization(
        mean=mean, variance=variance, dtype="float32", name="standardise"
    )
    return features, standardize(features)


def linear_model(data: HeadData, weights: np.ndarray, bias: np.ndarray) -> keras.Model:
    """Return a model with weights (D, C) and bias (C,) on standardized features; it ends in "logits"."""
    features, x = standardized_input(data)
    dense = keras.layers.Dense(weights.shape[1], dtype="float32", name="logits")
    model = keras.Model(features, dense(x))
    dense.set_weights([weights, bias])
    return model


def with_probabilities(model: keras.Model, temperature: float | None) -> keras.Model:
    """Return a model that divides model's logits by temperature, if given, and applies the softmax."""
    logits = model.output
    if temperature is not None:
        logits = keras.layers.Rescaling(1 / temperature, dtype="float32", name="calibrated")(logits)
    return keras.Model(model.input, keras.layers.Softmax(dtype="float32", name="probabilities")(logits))
