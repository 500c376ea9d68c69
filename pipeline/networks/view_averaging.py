"""Average a classifier's probabilities over views of an image; see pipeline.views."""

from __future__ import annotations

import keras

from pipeline.features.passes import apply_view_with
from pipeline.views import IDENTITY


def average_over_views(model: keras.Model, views: tuple[str, ...]) -> keras.Model:
    """Return a model from pixels to the mean of model's probabilities over views of the pixels.

    It contains model as one layer, shares its weights, and uses only Keras operations.
    """
    if views == (IDENTITY,):
        return model
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    probabilities = [model(apply_view_with(keras.ops, pixels, view)) for view in views]
    mean = keras.layers.Average(dtype="float32", name="mean_over_views")(probabilities)
    return keras.Model(pixels, mean)
