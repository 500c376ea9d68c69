"""The standalone model of a finished run: raw pixels in, class probabilities out, all in float32.

A head's run stores only the head. The standalone model adds its backbone, input size and the views that it
averages over, with weights from the data folder. It consists of Keras's own layers.
"""

import functools
from pathlib import Path

import keras
import tensorflow as tf
from keras import KerasTensor

from pipeline import numerics  # noqa: F401  # sets Keras's defaults
from pipeline.backbones.model import LOADING_ERRORS, backbone_features, reason_of
from pipeline.backbones.steps import resize_matrix
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.errors import DamagedFile
from pipeline.networks.build import average_over_views
from pipeline.runs.result import RunResult, needs_weights
from pipeline.storage.layout import MODEL
from pipeline.storage.publishing import read_manifest


def standalone_model(run: RunResult, weights: Path | None = None) -> keras.Model:
    """Return the standalone model of a run: (B, S, S, 3) uint8 RGB in, (B, C) float32 probabilities out.

    S is the run's image size. weights is the folder of the backbone's weights, needed if
    needs_weights(run.recipe). Raises DamagedFile if the model or the weights do not match their manifests.
    """
    model = _load_float32(read_manifest(run.folder).verified(MODEL))
    if not needs_weights(run.recipe):
        return model

    assert weights is not None
    features, settings = run.recipe["fingerprint"]["features"], run.recipe["settings"]
    row, size = BACKBONES[features["backbone"]], features["input_size"]
    side = run.recipe["image_size"]
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    outputs = backbone_features(row, read_weights(weights), pixels, size, list(settings["layers"]))
    return average_over_views(keras.Model(pixels, model(outputs)), tuple(settings["views"]))


def for_any_size(model: keras.Model) -> keras.Model:
    """Return a model that takes images (B, H, W, 3) of any size and number type, and fits them to model's.

    Images are fitted as the pipeline fits pictures: the square at the center, resized with antialiasing.
    Pixels are whole numbers from 0 to 255. An image with other values, or whose largest value is 1, as if it
    were scaled to 0..1, gets NaN instead of probabilities.
    """
    side = model.input_shape[1]
    pixels = keras.Input((None, None, 3), dtype="float32", name="pixels")
    probabilities = model(keras.ops.cast(fit_images(pixels, side), "uint8"))
    return keras.Model(pixels, probabilities + _penalty(pixels))


def nan_unless_pixels(model: keras.Model) -> keras.Model:
    """Return a model of uint8 images that follows the same rule: NaN if the largest value is 1."""
    pixels = model.input
    return keras.Model(pixels, model.output + _penalty(keras.ops.cast(pixels, "float32")))


def fit_images(pixels: KerasTensor, side: int) -> KerasTensor:
    """Return images (B, H, W, 3) float32 as (B, side, side, 3), rounded; pictures.fit_picture on arrays."""
    fit = keras.layers.Resizing(
        side, side, crop_to_aspect_ratio=True, antialias=True, dtype="float32", name="fit"
    )
    return keras.ops.round(fit(pixels))


def _penalty(pixels: KerasTensor) -> KerasTensor:
    """Return (B, 1) float32: 0 for images of whole numbers from 0 to 255, NaN for others."""
    axes = (1, 2, 3)
    smallest, largest = keras.ops.min(pixels, axis=axes), keras.ops.max(pixels, axis=axes)
    whole = keras.ops.all(keras.ops.equal(pixels, keras.ops.round(pixels)), axis=axes)
    in_range = keras.ops.logical_and(smallest >= 0.0, largest <= 255.0)
    valid = keras.ops.logical_and(keras.ops.logical_and(whole, in_range), keras.ops.not_equal(largest, 1.0))
    return keras.ops.expand_dims(keras.ops.sqrt(keras.ops.cast(valid, "float32") - 1.0), -1)


def with_matrix_resizing(model: keras.Model) -> keras.Model:
    """Return a copy of model whose Resizing layers are matrix products, which TensorFlow Lite can compute."""

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.Resizing):
            resize = functools.partial(resize_square, side=layer.height)
            return keras.layers.Lambda(resize, name=layer.name, dtype="float32")
        return type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def resize_square(images: tf.Tensor, side: int) -> tf.Tensor:
    """Return images (B, S, S, C) resized to a side as keras.layers.Resizing does: bilinear, antialiased."""
    matrix = tf.constant(resize_matrix(images.shape[1], side))
    return tf.einsum("ih,jw,bhwc->bijc", matrix, matrix, images)


def _load_float32(path: Path) -> keras.Model:
    """Return a saved model in float32, whatever its training precision, without running code from it."""
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except LOADING_ERRORS as error:
        reason = reason_of(error)
        raise DamagedFile(f"{path}: expected a Keras model without custom code, got: {reason}") from error
    float32_model = keras.models.model_from_json(model.to_json().replace("mixed_bfloat16", "float32"))
    float32_model.set_weights(model.get_weights())
    return float32_model
