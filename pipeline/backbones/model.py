"""Backbones as Keras models that take raw pixels: preprocessing is part of the network."""

import itertools
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import KerasTensor
from keras.src.backend.common import global_state

from pipeline.backbones.table import APPLICATIONS, Backbone
from pipeline.backbones.weights import Arrays
from pipeline.errors import DamagedFile

NAMES = "object_name_uids"  # where Keras counts the layers of each class
POLICY = r'("class_name": "DTypePolicy", "config": \{"name": )"\w+"'  # of a layer in a configuration
LOADING_ERRORS = (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError)  # of Keras


def build_backbone(
    row: Backbone, arrays: Arrays, *, input_size: int, image_size: int | None = None
) -> keras.Model:
    """Return the backbone without its top, from pixels (B, I, I, 3) uint8 RGB to its last feature map.

    I is image_size, by default input_size; images of another size are resized to input_size. They are
    resized and means are subtracted in float32, whatever the precision of the rest. Layer names are Keras's
    own, so taps and weights can be looked up by name.
    """
    row.check_size(input_size)
    side = image_size or input_size
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    network = _network(row, input_size, keras.config.dtype_policy().name)
    x = _preprocess(row, resized(pixels, input_size))
    network = _loaded(keras.Model(pixels, network.call(x)), arrays)
    return keras.Model(network.input, output_of(network, row.taps[-1]), name=row.name)


def keras_taps(
    row: Backbone, arrays: Arrays, input_size: int, layers: list[str], precision: str
) -> keras.Model:
    """Return a model from preprocessed images (B, S, S, 3) to the maps of layers; a vector is one pixel."""
    policy = "mixed_bfloat16" if precision == "bfloat16" else precision
    network = _loaded(_network(row, input_size, policy), arrays)
    outputs = [output_of(network, layer) for layer in layers]
    maps = [x if len(x.shape) == 4 else keras.layers.Reshape((1, 1, -1))(x) for x in outputs]
    return keras.Model(network.input, maps)


def output_of(network: keras.Model, name: str) -> KerasTensor:
    """Return what a layer, or an operation such as a sum, outputs in a network."""
    nodes = itertools.chain.from_iterable(network._nodes_by_depth.values())  # there is no public access
    return next(node.output_tensors[0] for node in nodes if node.operation.name == name)


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
    scale: Any = 1.0 if set(row.divide) == {1.0} else [1 / divisor for divisor in row.divide]
    offset = [-mean / divisor for mean, divisor in zip(row.subtract, row.divide, strict=True)]
    x = keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="subtract_means")(pixels)
    return keras.ops.flip(x, axis=-1) if row.flip_channels else x


def _network(row: Backbone, size: int, policy: str) -> keras.Model:
    """Return a backbone from preprocessed images (B, size, size, 3) with a dtype policy and initial weights.

    Keras numbers layers without a name of their own through all networks of a process: activation_94. Here
    they have the names that they get in a new process.
    """
    if row.config:
        return keras.models.model_from_json(re.sub(POLICY, rf'\1"{policy}"', row.config))
    numbers, previous = global_state.get_global_attribute(NAMES), keras.config.dtype_policy()
    global_state.set_global_attribute(NAMES, None)
    keras.config.set_dtype_policy(policy)
    try:
        build = getattr(keras.applications, row.application)
        return build(include_top=False, weights=None, input_shape=(size, size, 3))
    finally:
        global_state.set_global_attribute(NAMES, numbers)
        keras.config.set_dtype_policy(previous)


def _loaded(network: keras.Model, arrays: Arrays) -> keras.Model:
    """Return a network with these weights: a copy, in which the statistics of Normalization are constants.

    Otherwise neither set_weights nor a copy of the network would change what the layer computes with. In the
    copy, layers are connected to one input only.
    """

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Normalization) and layer.name in arrays:
            mean, variance = arrays[layer.name][:2]
            config |= {"mean": mean.tolist(), "variance": variance.tolist()}
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=clone)
    load_arrays(copy, arrays)
    return copy


def load_arrays(model: keras.Model, arrays: Arrays) -> None:
    """Set the weights of layers by name; Keras raises ValueError if there is no layer of that name."""
    for name, weights in arrays.items():
        layer = model.get_layer(name)
        if not isinstance(layer, keras.layers.Normalization):  # see _loaded
            pairs = zip(weights, layer.weights, strict=True)  # scalars are stored as vectors
            layer.set_weights([values.reshape(tuple(one.shape)) for values, one in pairs])


def reason_of(error: Exception) -> str:
    """Return the first sentence of an error from Keras."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]


def weights_of(row: Backbone, path: Path | None = None) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Return the names and values of the weights of each layer in network order.

    path is a saved model, or a file of weights for a network of keras.applications; without it, they are
    Keras's initial ones. Raises DamagedFile if it is for another network, or safe mode refuses it.
    """
    try:
        if row.config and path:
            network = keras.models.load_model(path, compile=False, safe_mode=True)
        else:
            network = _network(row, row.minimum_size, "float32")
            if path:
                network.load_weights(path)
    except LOADING_ERRORS as error:
        raise DamagedFile(f"{path}: expected {row.title} without code, found: {reason_of(error)}") from None
    found = {layer.name: [(one.name, one.numpy()) for one in layer.weights] for layer in network.layers}
    # With ImageNet's weights, Keras divides normalized pixels once more, in a layer that has no weights.
    for layer, factor in APPLICATIONS.get(row.application, {}).get("rescaling", {}).items() if path else ():
        name, variance = found[layer][1]
        found[layer][1] = name, variance / np.square(factor)
    return {layer: weights for layer, weights in found.items() if weights}
