"""A backbone as a Keras model that takes raw pixels: preprocessing is part of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.backbones.table import Backbone
from pipeline.errors import BadInput

if TYPE_CHECKING:
    import keras

    from pipeline.backbones.weights import Arrays


def build_backbone(row: Backbone, arrays: Arrays, *, input_size: int) -> keras.Model:
    """Return the backbone without its top: (B, S, S, 3) uint8 RGB in, its last feature map out.

    Subtracting means happens in float32 whatever the precision of the rest. Layer names are those of
    keras.applications, so that taps and weights can be addressed by name.
    """
    import keras

    if input_size < row.minimum_size:
        raise BadInput(
            f"{row.title}: expected images of {row.minimum_size} px or more, received {input_size}"
        )
    pixels = keras.Input((input_size, input_size, 3), dtype="uint8", name="pixels")
    offset = [-mean for mean in row.subtract]
    centred = keras.layers.Rescaling(1.0, offset=offset, dtype="float32", name="subtract_means")(pixels)
    if row.flip_channels:
        centred = keras.ops.flip(centred, axis=-1)
    application = getattr(keras.applications, row.application)
    trunk = application(include_top=False, weights=None, input_tensor=centred)
    model = keras.Model(pixels, trunk.output, name=row.name)
    load_arrays(model, arrays)
    return model


def load_arrays(model: keras.Model, arrays: Arrays) -> None:
    """Put kernels and biases into the layers of the same names; raise BadInput where one is missing."""
    names = {layer.name for layer in model.layers}
    for name, pair in arrays.items():
        if name not in names:
            raise BadInput(f"the network has no layer {name!r} for these weights; it has {sorted(names)}")
        model.get_layer(name).set_weights(pair)
