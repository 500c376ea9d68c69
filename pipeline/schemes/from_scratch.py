"""Train a network written in the notation from random weights."""

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.backbones.model import resized
from pipeline.networks.build import add_block, add_classifier, add_neck, average_over_views
from pipeline.networks.fast_copy import fast_copy
from pipeline.networks.initializers import WHITENED_PIXELS, initialize_dirac, whitening_kernel
from pipeline.notation import parse_blocks
from pipeline.recipes.base import PATCH
from pipeline.recipes.from_scratch import ScratchRecipe
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples
from pipeline.training.feed import prefetch
from pipeline.training.history import History
from pipeline.training.job import Job, TrainingResult
from pipeline.training.optimizers import Multiplier
from pipeline.training.stage import Stage

STANDARDIZE, WHITENING = "standardise", "whitening"  # layer names
BLOCK_PIXELS = 1 << 22  # counted at a time

Moments = tuple[list[float], list[float]]  # mean and variance of each channel


def train_from_scratch(job: Job[ScratchRecipe]) -> TrainingResult:
    """Train the recipe's network (pixels in) on the training images."""
    recipe, images, history = job.recipe, job.images, History()
    pixels = images.images
    examples = Examples.of(images, pixels, recipe)
    with job.clock.stage("read images"):
        moments = channel_moments(pixels, examples.train)
    sizes = {"image_size": images.image_size, "input_size": job.input_size}
    model = build_network(recipe, moments, classes=examples.classes, **sizes)
    initialize_weights(recipe, model, pixels[examples.train[: WHITENED_PIXELS // max(sizes.values()) ** 2]])
    classifier = Classifier(fast_copy(model), input_size=job.input_size)
    with job.clock.stage("blocks"):
        stage = Stage.of(recipe, "blocks", epochs=examples.epochs(recipe))
        multipliers = functools.partial(lr_multipliers, recipe, classifier.model)
        job.fit(classifier, examples, stage, history=history, multipliers=multipliers)
    model.set_weights(classifier.model.get_weights())
    rows = job.rows()
    classifier = Classifier(average_over_views(model, recipe.test_views), input_size=job.input_size)
    with job.clock.stage("predict"):
        probabilities = classifier.predict(pixels, rows)
    return TrainingResult(classifier.model, history, rows, probabilities, n_train=len(examples.train))


def build_network(
    recipe: ScratchRecipe, moments: Moments, *, image_size: int, input_size: int, classes: int
) -> keras.Model:
    """Return the network of a recipe: (B, image_size, image_size, 3) uint8 in, class probabilities out.

    The network first resizes images to input_size, and standardizes pixels by moments: the mean and variance
    of each channel, in units of pixel values.
    """
    mean, variance = moments
    pixels = keras.Input((image_size, image_size, 3), dtype="uint8", name="pixels")
    deviation = [value**0.5 for value in variance]
    scale, offset = [1 / d for d in deviation], [-m / d for m, d in zip(mean, deviation, strict=True)]
    standardize = keras.layers.Rescaling(scale, offset=offset, dtype="float32", name=STANDARDIZE)
    x = standardize(resized(pixels, input_size))
    if recipe.stem == "whitening":
        x = keras.layers.Conv2D(8 * x.shape[-1], PATCH, name=WHITENING)(x)
        x = keras.layers.Activation("gelu", name=f"{WHITENING}_activation")(x)
    blocks = parse_blocks(recipe.conv_blocks, len(recipe.filters), dense=False)
    for number, (block, filters) in enumerate(zip(blocks, recipe.filters, strict=True), start=1):
        x = add_block(x, block, name=f"block{number}", width=filters, dropout=recipe.dropout)
    x = add_neck(x, recipe.neck)
    dense_blocks = parse_blocks(recipe.dense_blocks, len(recipe.units), dense=True)
    for number, (block, units) in enumerate(zip(dense_blocks, recipe.units, strict=True), start=1):
        x = add_block(x, block, name=f"dense{number}", width=units, dropout=recipe.dense_dropout)
    return keras.Model(pixels, add_classifier(x, classes, scale=recipe.logit_scale))


def initialize_weights(recipe: ScratchRecipe, model: keras.Model, images: np.ndarray) -> None:
    """Apply a recipe's initializers; a whitening stem is computed from images (N, H, W, 3) uint8.

    Freezes the whitening kernel, and the scales of batch normalization if the recipe does not train them.
    """
    if recipe.initializer == "dirac":
        initialize_dirac(model)
    if recipe.stem == "whitening":
        stem = model.get_layer(WHITENING)
        standardize = keras.Model(model.input, model.get_layer(STANDARDIZE).output)
        stem.kernel.assign(whitening_kernel(keras.ops.convert_to_numpy(standardize(images))))
        stem.kernel.trainable = False
    if not recipe.norm_scale:
        for layer in _norms(model):
            layer.gamma.trainable = False


def lr_multipliers(recipe: ScratchRecipe, model: keras.Model, steps: int) -> dict[str, Multiplier]:
    """Return learning-rate multipliers by variable; steps is the number of steps per epoch."""
    multipliers: dict[str, Multiplier] = {}
    if recipe.norm_bias_lr_multiplier != 1:
        multiplier = recipe.norm_bias_lr_multiplier
        multipliers |= {layer.beta.path: lambda _: multiplier for layer in _norms(model)}
    if recipe.stem == "whitening":
        last = recipe.stem_epochs * steps
        multipliers[model.get_layer(WHITENING).bias.path] = lambda step: tf.cast(step < last, tf.float32)
    return multipliers


def _norms(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def channel_moments(images: np.ndarray, rows: np.ndarray) -> Moments:
    """Return the mean and variance of each channel of images (N, H, W, 3) uint8 at rows (n,), 0…255.

    Sums integers, so the result does not depend on their order. A constant channel gets variance 1.
    """
    counts, values = np.zeros((3, 256), np.int64), np.arange(256)
    block = max(1, BLOCK_PIXELS // images[0, ..., 0].size)
    for part in prefetch(images[rows[start : start + block]] for start in range(0, len(rows), block)):
        counts += [np.bincount(part[..., channel].ravel(), minlength=256) for channel in range(3)]
    mean = [float(count @ values / count.sum()) for count in counts]
    square = [float(count @ values**2 / count.sum()) for count in counts]
    variance = [s - m * m for s, m in zip(square, mean, strict=True)]
    return mean, [v if v > 1e-6 else 1.0 for v in variance]
