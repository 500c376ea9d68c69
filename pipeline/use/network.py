"""The standalone model of a finished run: raw pixels in, class probabilities out, all in float32.

A head's run stores only the head. The standalone model adds its backbone, input size and the views that it
averages over, with weights from the data folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

import pipeline.heads.neighbours  # noqa: F401 - registers a Keras layer that saved models may use
from pipeline.backbones.model import backbone_features
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import DamagedFile
from pipeline.networks.view_averaging import average_over_views
from pipeline.runs.result import RunResult, family_of
from pipeline.storage.layout import MODEL
from pipeline.storage.publishing import read_manifest

HEAD_FAMILIES = ("head", "tuned-head")


def needs_weights(recipe: dict[str, Any]) -> bool:
    """Return whether the standalone model of a run, given its recipe.json, needs backbone weights."""
    return family_of(recipe["scheme"]) in HEAD_FAMILIES


def standalone_model(run: RunResult, weights: Path | None = None) -> keras.Model:
    """Return the standalone model of a run: (B, 32, 32, 3) uint8 RGB in, (B, C) float32 probabilities out.

    weights is the folder of the backbone's weights, needed if needs_weights(run.recipe). Raises DamagedFile
    if the model or the weights do not match their manifests.
    """
    model = _load_float32(read_manifest(run.folder).verified(MODEL))
    if not needs_weights(run.recipe):
        return model

    assert weights is not None
    features, settings = run.recipe["fingerprint"]["features"], run.recipe["settings"]
    row, size = BACKBONES[features["backbone"]], features["input_size"]
    pixels = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), dtype="uint8", name="pixels")
    outputs = backbone_features(row, read_weights(weights), pixels, size, list(settings["layers"]))
    return average_over_views(keras.Model(pixels, model(outputs)), tuple(settings["views"]))


def _load_float32(path: Path) -> keras.Model:
    """Return a saved model in float32, whatever its training precision, without running code from it."""
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:  # from Keras
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DamagedFile(f"{path}: expected a Keras model without custom code, got: {reason}") from error
    float32_model = keras.models.model_from_json(model.to_json().replace("mixed_bfloat16", "float32"))
    float32_model.set_weights(model.get_weights())
    return float32_model
