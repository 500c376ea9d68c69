"""Build Keras networks from the notation: conv blocks, a neck, dense blocks, probabilities, views."""

from collections.abc import Callable

import keras
from keras import KerasTensor

from pipeline.features.passes import apply_view
from pipeline.notation import Block, names_activation
from pipeline.views import IDENTITY

NECK = "neck"  # layer name

# The Keras layer of each row of notation.WORDS. A function gets the word, the layer's name, and of its block
# the width (filters or units), the default activation or None, and the default dropout rate.
LAYERS: dict[str, Callable[..., keras.layers.Layer]] = {
    "conv": lambda spec, name, width, activation, **_: keras.layers.Conv2D(
        width, spec.size or 3, padding="same", activation=activation, name=name
    ),
    "dense": lambda spec, name, width, activation, **_: keras.layers.Dense(
        width, activation=activation, name=name
    ),
    "batch norm": lambda spec, name, **_: keras.layers.BatchNormalization(
        momentum=0.9 if spec.rate is None else spec.rate, name=name
    ),
    "maxpool": lambda spec, name, **_: keras.layers.MaxPooling2D(spec.size or 2, name=name),
    "avgpool": lambda spec, name, **_: keras.layers.AveragePooling2D(spec.size or 2, name=name),
    "dropout": lambda spec, name, dropout, **_: keras.layers.Dropout(
        dropout if spec.rate is None else spec.rate, name=name
    ),
    "relu": lambda spec, name, **_: keras.layers.Activation("relu", name=name),
    "gelu": lambda spec, name, **_: keras.layers.Activation("gelu", name=name),
}


def add_block(x: KerasTensor, block: Block, *, name: str, width: int, dropout: float) -> KerasTensor:
    """Append one block; width is its filters or units, dropout the default rate.

    Layers are named `<name>_<kind><n>`, and the first pool `<name>_pool`. With name "block1" the layers of a
    VGG have the same names as in keras.applications. Convolutions are padded to keep the size.
    """
    options = {"width": width, "activation": None if names_activation(block) else "relu", "dropout": dropout}
    counts: dict[str, int] = {}
    for spec in block:
        kind = spec.word.kind
        counts[kind] = counts.get(kind, 0) + 1
        suffix = "pool" if kind == "pool" and counts[kind] == 1 else f"{kind}{counts[kind]}"
        x = LAYERS[spec.word.name](spec, f"{name}_{suffix}", **options)(x)
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
    """Append logits times scale and class probabilities, both always in float32."""
    return keras.layers.Softmax(dtype="float32", name="probabilities")(add_logits(x, classes, scale=scale))


def add_logits(x: KerasTensor, classes: int, *, scale: float = 1.0) -> KerasTensor:
    """Append logits times scale, always in float32."""
    if scale == 1:
        return keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    unscaled = keras.layers.Dense(classes, dtype="float32", name="unscaled_logits")(x)
    return keras.layers.Rescaling(scale, dtype="float32", name="logits")(unscaled)


def average_over_views(model: keras.Model, views: tuple[str, ...]) -> keras.Model:
    """Return a model from pixels to the mean of model's probabilities over views of the pixels.

    It contains model as one layer, shares its weights, and uses only Keras operations.
    """
    if views == (IDENTITY,):
        return model
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    probabilities = [model(apply_view(pixels, view, keras.ops)) for view in views]
    mean = keras.layers.Average(dtype="float32", name="mean_over_views")(probabilities)
    return keras.Model(pixels, mean)
