"""A small network whose layers use random numbers or keep a state, and its reproducible history."""

from __future__ import annotations

import keras
import numpy as np

from pipeline.networks.build import add_block, add_classifier, add_neck
from pipeline.notation import parse_block
from pipeline.training.classifier import Classifier
from pipeline.training.history import History


def picture_classifier() -> Classifier:
    """Return a classifier of 32 px images in two classes with normalization and dropout."""
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    block = parse_block("conv - batch norm - maxpool 4 - dropout", dense=False)
    x = add_block(x, block, name="block1", width=4, dropout=0.3)
    return Classifier(keras.Model(pixels, add_classifier(add_neck(x, "flatten"), 2)))


def rows_without_seconds(history: History) -> list[dict]:
    """Return the part of a history that a seed reproduces."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


def save_model(path, *, code: bool = False):
    """Save a small model with statistics, a bypass, and a Dense layer named embedding; return it."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    pixels = keras.Input((32, 32, 3))
    normalize = keras.layers.Normalization(name="normalize")
    normalize.adapt(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.float32))
    x = keras.layers.Lambda(lambda x: x / 2)(pixels) if code else normalize(pixels)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(8, 3, padding="same", name="second")(x)])
    x = keras.layers.Dense(5, name="embedding")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(pixels, keras.layers.Softmax()(x))
    model.save(path)
    return model
