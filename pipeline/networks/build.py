"""Keras networks from the notation: convolutional blocks, a neck, dense blocks, class probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.networks.notation import Block, names_activation

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

NECKS = ("flatten", "average", "maximum")
NECK = "neck"  # the name of its layer


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
        layer = step.word.make(
            step, width=width, activation=implied, dropout=dropout, name=f"{name}_{suffix}"
        )
        x = layer(x)
    return x


def add_neck(x: KerasTensor, neck: str) -> KerasTensor:
    """Turn the last feature map into a vector: "flatten" keeps positions, "average" and "maximum" do not."""
    import keras

    layers = {
        "flatten": keras.layers.Flatten,
        "average": keras.layers.GlobalAveragePooling2D,
        "maximum": keras.layers.GlobalMaxPooling2D,
    }
    return layers[neck](name=NECK)(x)


def add_classifier(x: KerasTensor, classes: int, *, scale: float = 1.0) -> KerasTensor:
    """Append logits, times scale, and class probabilities, in float32 whatever the precision of the rest."""
    import keras

    return keras.layers.Softmax(dtype="float32", name="probabilities")(add_logits(x, classes, scale=scale))


def add_logits(x: KerasTensor, classes: int, *, scale: float = 1.0) -> KerasTensor:
    """Append logits, times scale, in float32 whatever the precision of the rest."""
    import keras

    if scale == 1:
        return keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    answers = keras.layers.Dense(classes, dtype="float32", name="answers")(x)
    return keras.layers.Rescaling(scale, dtype="float32", name="logits")(answers)


def logits_model(model: keras.Model, inputs: KerasTensor | None = None) -> keras.Model:
    """Return the part of a classifier that ends in logits, from its input or from a tensor inside of it.

    It shares all layers with the whole.
    """
    import keras

    return keras.Model(model.input if inputs is None else inputs, model.get_layer("logits").output)
