"""Train a network that is written in the notation, from random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.networks.build import add_block, add_classifier, add_neck
from pipeline.networks.notation import parse_conv_blocks, parse_dense_blocks
from pipeline.training.loop import Classifier, Examples, History, Stage, fit
from pipeline.training.record import Job, Trained, evaluated_rows

if TYPE_CHECKING:
    import keras
    import numpy as np

    from pipeline.training.recipes import ScratchRecipe


def train_from_scratch(job: Job) -> Trained:
    """Return the recipe's network, pixels in, trained on the training images."""
    images, history = job.images, History()
    with job.clock.stage("read images"):
        pixels = images.images()
    examples = Examples.of(images, pixels, len(images.class_names), given=job.recipe.labels)
    mean, variance = channel_moments(pixels[examples.train])
    network = Classifier(
        build_network(
            job.recipe, mean=mean, variance=variance, size=pixels.shape[1], classes=examples.classes
        )
    )
    with job.clock.stage("blocks"):
        stage = Stage.of(job.recipe, "blocks", epochs=examples.epochs(job.recipe))
        fit(network, examples, stage, seed=job.seed, history=history, progress=job.progress)
    rows = evaluated_rows(images)
    with job.clock.stage("predict"):
        probabilities = network.predict(pixels, rows)
    return Trained(network.model, history, rows, probabilities, n_train=len(examples.train))


def build_network(
    recipe: ScratchRecipe, *, mean: list[float], variance: list[float], size: int, classes: int
) -> keras.Model:
    """Return the network of a recipe: (B, size, size, 3) uint8 RGB in, class probabilities out.

    mean and variance are of the three channels of 0…255 pixels; the network standardises by them first.
    """
    import keras

    pixels = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    deviation = [value**0.5 for value in variance]
    scale, offset = [1 / d for d in deviation], [-m / d for m, d in zip(mean, deviation, strict=True)]
    x = keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="standardise")(pixels)
    blocks = parse_conv_blocks(recipe.conv_blocks, len(recipe.filters))
    for number, (block, filters) in enumerate(zip(blocks, recipe.filters, strict=True), start=1):
        x = add_block(x, block, name=f"block{number}", width=filters, dropout=recipe.dropout)
    x = add_neck(x, recipe.neck)
    tops = parse_dense_blocks(recipe.dense_blocks, len(recipe.units))
    for number, (block, units) in enumerate(zip(tops, recipe.units, strict=True), start=1):
        x = add_block(x, block, name=f"dense{number}", width=units, dropout=recipe.dense_dropout)
    return keras.Model(pixels, add_classifier(x, classes))


def channel_moments(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and variance of each channel of images (N, H, W, 3) uint8, in units of pixel values.

    Sums of whole numbers, so the result does not depend on their order; a constant channel has variance 1.
    """
    import numpy as np

    counts = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)]
    values = np.arange(256)
    mean = [float(count @ values / count.sum()) for count in counts]
    square = [float(count @ values**2 / count.sum()) for count in counts]
    variance = [s - m * m for s, m in zip(square, mean, strict=True)]
    return mean, [v if v > 1e-6 else 1.0 for v in variance]
