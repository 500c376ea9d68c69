"""A backbone as a Keras model that takes raw pixels: preprocessing is part of the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import KerasTensor

from pipeline.backbones.table import Backbone
from pipeline.backbones.weights import Arrays
from pipeline.errors import BadInput


def build_backbone(row: Backbone, arrays: Arrays, *, input_size: int) -> keras.Model:
    """Return the backbone without its top: (B, S, S, 3) uint8 RGB in, its last feature map out.

    Subtracting means happens in float32 whatever the precision of the rest. Layer names are those of
    keras.applications, so that taps and weights can be addressed by name.
    """
    row.check_size(input_size)
    pixels = keras.Input((input_size, input_size, 3), dtype="uint8", name="pixels")
    trunk = _application(row, input_tensor=_centred(row, pixels))
    model = keras.Model(pixels, trunk.output, name=row.name)
    load_arrays(model, arrays)
    return model


def keras_taps(
    row: Backbone, arrays: Arrays, input_size: int, layers: list[str], precision: str
) -> keras.Model:
    """Return a network from preprocessed images (B, S, S, 3) to a list of the outputs of layers."""
    with _policy(precision):
        trunk = _application(row, input_shape=(input_size, input_size, 3))
    load_arrays(trunk, arrays)
    return keras.Model(trunk.input, [trunk.get_layer(layer).output for layer in layers])


def backbone_features(
    row: Backbone, arrays: Arrays, pixels: KerasTensor, input_size: int, layers: list[str]
) -> KerasTensor:
    """Return the features (B, D) float32 of pixels (B, S, S, 3) uint8, as heads read them from the cache.

    Images are resized to input_size, the network runs in float32, layers are averaged over space and joined.
    """
    x = keras.layers.Rescaling(1.0, dtype="float32", name="pixel_values")(pixels)
    if pixels.shape[1] != input_size:
        x = keras.layers.Resizing(input_size, input_size, antialias=True, dtype="float32")(x)
    found = keras_taps(row, arrays, input_size, layers, "float32")(_centred(row, x))
    averages = [keras.ops.mean(taps, axis=(1, 2)) for taps in keras.tree.flatten(found)]
    return keras.ops.concatenate(averages, axis=-1) if len(averages) > 1 else averages[0]


def _centred(row: Backbone, pixels: KerasTensor) -> KerasTensor:
    """Return pixels (B, S, S, 3), 0…255 RGB, preprocessed as the backbone was trained, in float32."""
    offset = [-mean for mean in row.subtract]
    x = keras.layers.Rescaling(1.0, offset=offset, dtype="float32", name="subtract_means")(pixels)
    return keras.ops.flip(x, axis=-1) if row.flip_channels else x


def _application(row: Backbone, **inputs: Any) -> keras.Model:
    return getattr(keras.applications, row.application)(include_top=False, weights=None, **inputs)


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Build the layers of the block in a precision, whatever that of the process is."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def load_arrays(model: keras.Model, arrays: Arrays) -> None:
    """Put weights into the layers of the same names; raise BadInput where one is missing."""
    names = {layer.name for layer in model.layers}
    for name, weights in arrays.items():
        if name not in names:
            raise BadInput(f"the network has no layer {name!r} for these weights; it has {sorted(names)}")
        model.get_layer(name).set_weights(weights)
