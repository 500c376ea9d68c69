"""A classifier that looks at several views of an image and averages its answers; see pipeline.views."""

from __future__ import annotations

import keras

from pipeline.features.passes import shown_by
from pipeline.views import IDENTITY


def over_views(model: keras.Model, views: tuple[str, ...]) -> keras.Model:
    """Return model (pixels in, probabilities out), its probabilities averaged over views of the pixels.

    It is made of Keras's own operations and shares the weights of model, which stands in it as one layer.
    """
    if views == (IDENTITY,):
        return model
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    answers = [model(shown_by(keras.ops, pixels, view)) for view in views]
    mean = keras.layers.Average(dtype="float32", name="mean_over_views")(answers)
    return keras.Model(pixels, mean)
