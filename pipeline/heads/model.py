"""Keras models of heads: standardise, answer, and make probabilities of the answers."""

from __future__ import annotations

import keras
import numpy as np
from keras import KerasTensor

from pipeline.heads.data import HeadData


def standardised_input(data: HeadData) -> tuple[KerasTensor, KerasTensor]:
    """Return an input of features (B, D) and the same standardised by the training rows."""
    mean, variance = data.moments
    features = keras.Input((len(mean),), name="features")
    standardise = keras.layers.Normalization(
        mean=mean, variance=variance, dtype="float32", name="standardise"
    )
    return features, standardise(features)


def linear_model(data: HeadData, weights: np.ndarray, bias: np.ndarray) -> keras.Model:
    """Return the model of weights (D, C) and bias (C,) on standardised features; it ends in "logits"."""
    features, x = standardised_input(data)
    dense = keras.layers.Dense(weights.shape[1], dtype="float32", name="logits")
    model = keras.Model(features, dense(x))
    dense.set_weights([weights, bias])
    return model


def with_probabilities(model: keras.Model, temperature: float | None) -> keras.Model:
    """Return model, which ends in answers, with a softmax behind them, divided by a temperature if any."""
    answers = model.output
    if temperature is not None:
        answers = keras.layers.Rescaling(1 / temperature, dtype="float32", name="calibrated")(answers)
    return keras.Model(model.input, keras.layers.Softmax(dtype="float32", name="probabilities")(answers))
