"""Train a linear or dense head on cached features; the backbone is not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.backbones.table import BACKBONES
from pipeline.networks.build import add_block, add_classifier
from pipeline.networks.notation import parse_dense_blocks
from pipeline.training.loop import Classifier, Examples, History, Stage, fit
from pipeline.training.record import Job, Trained, evaluated_rows

if TYPE_CHECKING:
    import keras
    import numpy as np

    from pipeline.features.store import FeatureStore

DEAD_VARIANCE = 1e-11  # of its mean square: below it a float32 feature is constant but for rounding


def train_head(job: Job) -> Trained:
    """Return a head trained on the layers that its recipe names, joined: (N, D) features in."""
    recipe, features = job.recipe, job.features
    with job.clock.stage("read features"):
        inputs = read_views(features, recipe.layers, recipe.views)
    examples = Examples.of(features, inputs, len(job.images.class_names), len(recipe.views))
    head = Classifier(build_head(examples, recipe.dense_blocks, recipe.units, recipe.dropout))
    history, rows = History(), evaluated_rows(job.images)
    with job.clock.stage("head"):
        fit(head, examples, Stage.of(recipe, "head"), seed=job.seed, history=history, progress=job.progress)
    with job.clock.stage("predict"):
        probabilities = head.predict(inputs, rows, len(recipe.views))
    return Trained(head.model, history, rows, probabilities, parameters_below(job.backbone, recipe.layers))


def read_views(features: FeatureStore, layers: tuple[str, ...], views: tuple[str, ...]) -> np.ndarray:
    """Return the features (V * N, D) float32 of the layers joined, one block of N rows for each view."""
    import numpy as np

    return np.concatenate([features.load(layers, view) for view in views])


def build_head(examples: Examples, text: str, units: tuple[int, ...], dropout: float) -> keras.Model:
    """Return standardising, dense blocks, class probabilities; standardised by the training rows alone."""
    import keras
    import numpy as np

    blocks = range(0, len(examples.inputs), len(examples.labels))
    mean, variance = moments(np.concatenate([examples.inputs[start + examples.train] for start in blocks]))
    features = keras.Input((examples.inputs.shape[1],), name="features")
    x = keras.layers.Normalization(mean=mean, variance=variance, dtype="float32", name="standardise")(
        features
    )
    for number, (block, width) in enumerate(zip(parse_dense_blocks(text, len(units)), units, strict=True), 1):
        x = add_block(x, block, name=f"dense{number}", width=width, dropout=dropout)
    return keras.Model(features, add_classifier(x, examples.classes))


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (D,) and variance (D,) float32 of features (n, D); the variance of dead features is 1."""
    import numpy as np

    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    variance = np.where(variance > DEAD_VARIANCE * (variance + mean**2), variance, 1.0)
    return mean.astype(np.float32), variance.astype(np.float32)


def parameters_below(backbone: str, layers: tuple[str, ...]) -> int:
    """Return how many parameters the backbone has up to the deepest of the layers."""
    row = BACKBONES[backbone]
    deepest = max(row.taps.index(layer) for layer in layers) + 1
    return sum(
        kernel[0] * kernel[1] * kernel[2] * kernel[3] + bias[0]
        for name, (kernel, bias) in row.shapes().items()
        if int(name.partition("_")[0].removeprefix("block")) <= deepest
    )
