"""A small network whose layers use random numbers or keep a state, and its reproducible history."""

from __future__ import annotations

import keras

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
