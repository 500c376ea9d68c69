"""A classifier that looks at several views of an image and averages its answers; see pipeline.views."""

from __future__ import annotations

import keras
from keras import KerasTensor

from pipeline.views import IDENTITY, parts_of


def over_views(model: keras.Model, views: tuple[str, ...]) -> keras.Model:
    """Return model (pixels in, probabilities out), its probabilities averaged over views of the pixels.

    It is made of Keras's own operations and shares the weights of model, which stands in it as one layer.
    """
    if views == (IDENTITY,):
        return model
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    answers = [model(_shown(pixels, view)) for view in views]
    mean = keras.layers.Average(dtype="float32", name="mean_over_views")(answers)
    return keras.Model(pixels, mean)


def _shown(pixels: KerasTensor, view: str) -> KerasTensor:
    mirrored, down, right = parts_of(view)
    if mirrored:
        pixels = keras.ops.flip(pixels, axis=2)
    if not (down or right):
        return pixels
    height, width = pixels.shape[1:3]
    around = ((0, 0), (abs(down), abs(down)), (abs(right), abs(right)), (0, 0))
    padded = keras.ops.pad(pixels, around, mode="reflect")
    top, left = abs(down) - down, abs(right) - right
    return padded[:, top : top + height, left : left + width]
