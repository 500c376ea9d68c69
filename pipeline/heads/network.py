"""Linear and dense heads trained by gradient descent: one as a Keras model, or many at once."""

from typing import Any

import keras
import numpy as np

from pipeline.heads.calibration import with_probabilities
from pipeline.heads.data import HeadData, Points, standardized_input
from pipeline.heads.stacked import train_stack
from pipeline.networks.build import add_block, add_logits
from pipeline.notation import parse_blocks
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import NetworkHead
from pipeline.training.classifier import Classifier
from pipeline.training.history import History
from pipeline.training.loop import fit as train
from pipeline.training.stage import Stage


def fit(
    recipe: NetworkHead, data: HeadData, *, seed: int, history: History, progress: Progress = silent
) -> keras.Model:
    """Return a trained head; history gets a row per epoch."""
    model = build_head(data, recipe.dense_blocks, recipe.units, recipe.dropout)
    classifier = Classifier(with_probabilities(model, None))
    stage = Stage.of(recipe, "head", epochs=data.examples.epochs(recipe))
    train(classifier, data.examples, stage, seed=seed, history=history, progress=progress)
    return model


def build_head(data: HeadData, text: str, units: tuple[int, ...], dropout: float) -> keras.Model:
    """Return an untrained head of dense blocks; it ends in the layer "logits"."""
    features, x = standardized_input(data)
    blocks = parse_blocks(text, len(units), dense=True)
    for number, (block, width) in enumerate(zip(blocks, units, strict=True), start=1):
        x = add_block(x, block, name=f"dense{number}", width=width, dropout=dropout)
    return keras.Model(features, add_logits(x, data.classes))


def predict_logits(recipe: NetworkHead, points: Points, data: HeadData, **options: Any) -> list[np.ndarray]:
    """Return val logits (V, n, C) of each point's head; all train together, with options of train_stack."""
    logits = train_stack(recipe, points, data, **options)
    return [data.by_view(logits[:, number]) for number in range(len(points))]
