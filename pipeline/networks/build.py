"""Keras networks from the notation: convolutional blocks, a neck, dense blocks, class probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import KerasTensor

from pipeline.notation import Block, Step, names_activation

NECK = "neck"  # the name of its layer


class Options(NamedTuple):
    """What a layer takes from its block: width (filters or units), the implied activation or None, the
    recipe's dropout rate, and its name."""

    width: int
    activation: str | None
    dropout: float
    name: str


def _activation(step: Step, options: Options) -> keras.layers.Layer:
    return keras.layers.Activation(step.word.name, name=options.name)


# The Keras layer of each row of notation.WORDS.
LAYERS: dict[str, Callable[[Step, Options], keras.layers.Layer]] = {
    "conv": lambda step, o: keras.layers.Conv2D(
        o.width, step.size or 3, padding="same", activation=o.activation, name=o.name
    ),
    "dense": lambda step, o: keras.layers.Dense(o.width, activation=o.activation, name=o.name),
    "batch norm": lambda step, o: keras.layers.BatchNormalization(
        momentum=0.9 if step.rate is None else step.rate, name=o.name
    ),
    "maxpool": lambda step, o: keras.layers.MaxPooling2D(step.size or 2, name=o.name),
    "avgpool": lambda step, o: keras.layers.AveragePooling2D(step.size or 2, name=o.name),
    "dropout": lambda step, o: keras.layers.Dropout(
        o.dropout if step.rate is None else step.rate, name=o.name
    ),
    "relu": _activation,
    "gelu": _activation,
}


def add_block(x: KerasTensor, block: Block, *, name: str, width: int, dropout: float) -> KerasTensor:
    """Append one block; width is its filters or units, dropout the rate where the text gives none.

    Layers are named `<name>_<word><n>`, pools `<name>_pool`: with name "block1" the convolutions of a VGG
    carry the names that they have in keras.applications. Convolutions are padded to keep the size.
    """
    implied = None if names_activation(block) else "relu"
    counts: dict[str, int] = {}
    for step in block:
        kind = step.word.kind
        counts[kind] = counts.get(kind, 0) + 1
        suffix = "pool" if kind == "pool" and counts[kind] == 1 else f"{kind}{counts[kind]}"
        x = LAYERS[step.word.name](step, Options(width, implied, dropout, f"{name}_{suffix}"))(x)
    return x


def add_neck(x: KerasTensor, neck: str) -> KerasTensor:
    """Turn the last feature map into a vector: "flatten" keeps positions, "average" and "maximum" do not."""
    layers = {
        "flatten": keras.layers.Flatten,
        "average": keras.layers.GlobalAveragePooling2D,
        "maximum": keras.layers.GlobalMaxPooling2D,
    }
    return layers[neck](name=NECK)(x)


def add_classifier(x: KerasTensor, classes: int, *, scale: float = 1.0) -> KerasTensor:
    """Append logits, times scale, and class probabilities, in float32 whatever the precision of the rest."""
    return keras.layers.Softmax(dtype="float32", name="probabilities")(add_logits(x, classes, scale=scale))


def add_logits(x: KerasTensor, classes: int, *, scale: float = 1.0) -> KerasTensor:
    """Append logits, times scale, in float32 whatever the precision of the rest."""
    if scale == 1:
        return keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    answers = keras.layers.Dense(classes, dtype="float32", name="answers")(x)
    return keras.layers.Rescaling(scale, dtype="float32", name="logits")(answers)


def logits_model(model: keras.Model, inputs: KerasTensor | None = None) -> keras.Model:
    """Return the part of a classifier that ends in logits, from its input or from a tensor inside of it.

    It shares all layers with the whole.
    """
    return keras.Model(model.input if inputs is None else inputs, model.get_layer("logits").output)
