"""The whole network of a finished run: raw pixels in, class probabilities out, in float32 everywhere.

A head's run holds the head alone; its backbone, the views that it averages over and its input size are put
before it again, from the weights in the data folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

import pipeline.heads.neighbours  # noqa: F401 - saved networks may hold its layer, which Keras must know
from pipeline.backbones.model import backbone_features
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import DamagedFile
from pipeline.networks.view_averaging import over_views
from pipeline.runs.result import RunResult, family_of
from pipeline.storage.layout import MODEL
from pipeline.storage.publishing import read_manifest

HEADS = ("head", "tuned-head")


def needs_weights(recipe: dict[str, Any]) -> bool:
    """Say whether a run, by its recipe.json, needs the weights of a backbone to be whole."""
    return family_of(recipe["scheme"]) in HEADS


def whole_network(run: RunResult, weights: Path | None = None) -> keras.Model:
    """Return the network of a run: (B, 32, 32, 3) uint8 RGB in, (B, C) float32 probabilities out.

    weights is the folder of the backbone's weights, which a run of a head needs. Raises DamagedFile where
    the model or the weights are not what their manifests say.
    """
    model = _stored(read_manifest(run.folder).verified(MODEL))
    if not needs_weights(run.recipe):
        return model

    assert weights is not None
    features, settings = run.recipe["fingerprint"]["features"], run.recipe["settings"]
    row, size = BACKBONES[features["backbone"]], features["input_size"]
    pixels = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), dtype="uint8", name="pixels")
    found = backbone_features(row, read_weights(weights), pixels, size, list(settings["layers"]))
    return over_views(keras.Model(pixels, model(found)), tuple(settings["views"]))


def _stored(path: Path) -> keras.Model:
    """Return a saved model in float32, whichever precision it was trained in; no code in it is run."""
    try:
        found = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:  # Keras has none of its own
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DamagedFile(f"{path}: expected a network without code of its own, found: {why}") from error
    single = keras.models.model_from_json(found.to_json().replace("mixed_bfloat16", "float32"))
    single.set_weights(found.get_weights())
    return single
