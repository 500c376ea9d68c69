"""Backbones as Keras models that take raw pixels: preprocessing is part of the network."""

from typing import Any

import keras
from keras import KerasTensor

from pipeline.backbones.table import Backbone
from pipeline.backbones.weights import Arrays


def build_backbone(
    row: Backbone, arrays: Arrays, *, input_size: int, image_size: int | None = None
) -> keras.Model:
    """Return the backbone without its top, from pixels (B, I, I, 3) uint8 RGB to its last feature map.

    I is image_size, by default input_size; images of another size are resized to input_size. They are
    resized and means are subtracted in float32, whatever the precision of the rest. Layer names are those of
    keras.applications, so taps and weights can be looked up by name.
    """
    row.check_size(input_size)
    side = image_size or input_size
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    application = _application(row, input_tensor=_preprocess(row, resized(pixels, input_size)))
    model = keras.Model(pixels, application.output, name=row.name)
    load_arrays(model, arrays)
    return model


def keras_taps(
    row: Backbone, arrays: Arrays, input_size: int, layers: list[str], precision: str
) -> keras.Model:
    """Return a model from preprocessed images (B, S, S, 3) to the outputs of layers."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        application = _application(row, input_shape=(input_size, input_size, 3))
    finally:
        keras.config.set_dtype_policy(previous)
    load_arrays(application, arrays)
    return keras.Model(application.input, [application.get_layer(layer).output for layer in layers])


def backbone_features(
    row: Backbone, arrays: Arrays, pixels: KerasTensor, input_size: int, layers: list[str]
) -> KerasTensor:
    """Return the features (B, D) float32 of pixels (B, S, S, 3) uint8, in the layout of the feature cache.

    Images are resized to input_size; layers are computed in float32, averaged over space and concatenated.
    """
    x = _preprocess(row, resized(pixels, input_size))
    outputs = keras_taps(row, arrays, input_size, layers, "float32")(x)
    averages = [keras.ops.mean(maps, axis=(1, 2)) for maps in keras.tree.flatten(outputs)]
    return keras.ops.concatenate(averages, axis=-1) if len(averages) > 1 else averages[0]


def resized(pixels: KerasTensor, size: int) -> KerasTensor:
    """Return pixels (B, S, S, 3) in float32, resized to size if they differ: bilinear, antialiased."""
    x = keras.layers.Rescaling(1.0, dtype="float32", name="pixel_values")(pixels)
    if pixels.shape[1] == size:
        return x
    return keras.layers.Resizing(size, size, antialias=True, dtype="float32", name="resize")(x)


def _preprocess(row: Backbone, pixels: KerasTensor) -> KerasTensor:
    """Apply the backbone's preprocessing to pixels (B, S, S, 3), 0…255 RGB, in float32."""
    offset = [-mean for mean in row.subtract]
    x = keras.layers.Rescaling(1.0, offset=offset, dtype="float32", name="subtract_means")(pixels)
    return keras.ops.flip(x, axis=-1) if row.flip_channels else x


def _application(row: Backbone, **inputs: Any) -> keras.Model:
    return getattr(keras.applications, row.application)(include_top=False, weights=None, **inputs)


def load_arrays(model: keras.Model, arrays: Arrays) -> None:
    """Set the weights of layers by name; Keras raises ValueError if there is no layer of that name."""
    for name, weights in arrays.items():
        model.get_layer(name).set_weights(weights)
