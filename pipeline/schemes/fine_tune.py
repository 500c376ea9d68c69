"""Fine-tune a pretrained backbone: fit a new top first, then train it with the unfrozen blocks."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import KerasTensor

from pipeline.backbones.model import build_backbone, output_of
from pipeline.backbones.table import BACKBONES, RANDOM_IDENTITY, Backbone
from pipeline.backbones.weights import read_weights
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import with_probabilities
from pipeline.heads.data import HeadData
from pipeline.heads.fit import read_choice
from pipeline.heads.network import build_head
from pipeline.networks.build import NECK, add_neck, average_over_views
from pipeline.networks.fast_copy import fast_copy
from pipeline.recipes.fine_tune import FineTuneRecipe, Prefix, top_head
from pipeline.storage.publishing import read_manifest
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples, Inputs
from pipeline.training.history import History
from pipeline.training.job import Job, TrainingResult
from pipeline.training.optimizers import Multiplier
from pipeline.training.stage import Stage

TOP_STAGE, BLOCKS_STAGE = "top", "blocks"
NORMAL_95 = 1.96  # 95 % of a normal distribution lies within so many standard deviations of the mean

logger = logging.getLogger(__name__)


def fine_tune(job: Job[FineTuneRecipe]) -> TrainingResult:
    """Fit the top on cached features, train it with the unfrozen blocks, and return the complete network.

    With the job's maps, frozen blocks are not computed: training starts from the cached maps at the cut.
    """
    recipe, images, history = job.recipe, job.images, History()
    row = BACKBONES[job.backbone]
    choice: dict[str, Any] = read_choice(job.sweep) if job.sweep else {"settings": {}, "seconds": 0.0}
    examples = Examples.of(images, images.images, recipe)
    with job.clock.stage(TOP_STAGE):
        top = _fitted_top(job, examples, history, choice["settings"])
    with job.clock.stage("read weights"):
        assert job.weights is not None
        sizes = {"image_size": images.image_size, "input_size": job.input_size}
        model = join(build_backbone(row, read_weights(job.weights), **sizes), top)
        fast_model = fast_copy(model)
    prefix = job.prefix or Prefix(False, "from images, because the job has no maps")
    with job.clock.stage("read maps"):
        if job.maps is not None and prefix.cached:
            examples = replace(examples, inputs=_maps(job.maps, prefix), cached_augmentation=True)
    with job.clock.stage(BLOCKS_STAGE):
        _train_blocks(job, fast_model, examples, history, prefix)
    freeze_blocks(model, row, recipe.freeze_through)
    model.set_weights(fast_model.get_weights())
    rows, trained = job.rows(), average_over_views(model, recipe.test_views)
    with job.clock.stage("predict"):
        if examples.cached_augmentation and set(recipe.test_views) <= set(prefix.views):
            offsets = [len(images) * prefix.views.index(view) for view in recipe.test_views]
            classifier = Classifier(fast_model, cut_of(fast_model, prefix))
            probabilities = classifier.predict_blocks(examples.inputs, [rows + first for first in offsets])
        else:
            classifier = Classifier(trained, input_size=job.input_size)
            probabilities = classifier.predict(images.images, rows)
    warning = destruction_warning(history.rows, len(examples.val)) if _is_pretrained(job) else None
    facts = {"prefix": prefix.why, "top": choice["settings"], "warnings": [warning] if warning else []}
    n_train, seconds = len(examples.train), choice["seconds"]
    return TrainingResult(
        trained, history, rows, probabilities, n_train=n_train, tune_seconds=seconds, facts=facts
    )


def _maps(maps: FeatureStore, prefix: Prefix) -> Inputs:
    """Return the cached maps at the cut, a block of rows for each view; averages are read into memory."""
    if prefix.pooling == "none":
        return maps.map_layer(prefix.layer, prefix.views)
    return np.concatenate([maps.load([prefix.layer], view) for view in prefix.views])


def _fitted_top(
    job: Job[FineTuneRecipe], examples: Examples, history: History, chosen: dict[str, Any]
) -> keras.Model:
    """Return the top (features in), fitted with a sweep's settings, then given the recipe's dropout."""
    recipe, layer = job.recipe, BACKBONES[job.backbone].taps[-1]
    head = top_head(recipe, layer, chosen)
    assert job.features is not None
    features = replace(examples, inputs=job.features.load([layer]))
    data = HeadData(features, floor=head.variance_floor)

    def build(dropout: float) -> keras.Model:
        return with_probabilities(build_head(data, head.dense_blocks, head.units, dropout), None)

    fitted, top = build(head.dropout), build(recipe.dropout)
    # A checkpoint of a later stage contains the fitted top.
    is_fitted = job.checkpoint is not None and job.checkpoint.stage not in (None, TOP_STAGE)
    stage = Stage.of(head, TOP_STAGE, epochs=0 if is_fitted else head.epochs)
    job.fit(Classifier(fitted), features, stage, history=history)
    top.set_weights(fitted.get_weights())
    return top


def _train_blocks(
    job: Job[FineTuneRecipe], network: keras.Model, examples: Examples, history: History, prefix: Prefix
) -> None:
    """Train the top and the unfrozen blocks of a network, from cached maps or from pixels."""
    recipe, row = job.recipe, BACKBONES[job.backbone]
    stages = list(stages_of(recipe, len(row.taps), examples.epochs(recipe)))
    names = [stage.name for stage, _ in stages]
    current = job.checkpoint.stage if job.checkpoint else None
    first = names.index(current) if current in names else 0

    def on_epoch_end(so_far: History) -> None:
        epochs = [epoch for epoch in so_far.rows if epoch["stage"] != TOP_STAGE]
        warning = destruction_warning(so_far.rows, len(examples.val))
        if len(epochs) == 1 and warning and _is_pretrained(job):
            logger.warning(warning)
        if job.on_epoch_end:
            job.on_epoch_end(so_far)

    def multipliers(_: int) -> dict[str, Multiplier]:
        return block_multipliers(network, row, recipe.block_lr_multiplier)

    for stage, through in stages[first:]:
        freeze_blocks(network, row, through)
        cut = cut_of(network, prefix) if prefix.cached else None
        classifier = Classifier(network, cut, input_size=0 if prefix.cached else job.input_size)
        job.fit(
            classifier, examples, stage, history=history, on_epoch_end=on_epoch_end, multipliers=multipliers
        )


def _is_pretrained(job: Job[FineTuneRecipe]) -> bool:
    """Return whether the weights were trained; random weights cannot be destroyed."""
    assert job.weights is not None
    return not read_manifest(job.weights).fingerprint["weights"].startswith(RANDOM_IDENTITY)


def stages_of(recipe: FineTuneRecipe, blocks: int, epochs: int) -> Iterator[tuple[Stage, int]]:
    """Yield the stages of training and the number of frozen blocks in each, from most to fewest.

    Gradual unfreezing follows Howard & Ruder (2018, "Universal Language Model Fine-tuning"), with a separate
    learning-rate schedule for each stage.
    """
    partial = range(blocks - 1, recipe.freeze_through, -1) if recipe.unfreeze_epochs else ()
    for number, through in enumerate(partial, start=1):
        name = f"{BLOCKS_STAGE} from {through + 1}"
        stage = Stage.of(recipe, name, salt=1 + number, epochs=recipe.unfreeze_epochs, patience=0)
        yield stage, through
    remaining = epochs - recipe.unfreeze_epochs * len(partial)
    yield Stage.of(recipe, BLOCKS_STAGE, salt=1, epochs=max(0, remaining)), recipe.freeze_through


def freeze_blocks(network: keras.Model, row: Backbone, through: int) -> None:
    """Freeze blocks 1 to through and unfreeze the others; frozen layers stay in inference mode."""
    for layer, block in blocks_of(network, row).items():
        layer.trainable = block > through


def blocks_of(network: keras.Model, row: Backbone) -> dict[keras.layers.Layer, int]:
    """Return the number (from 1) of the block of each layer up to the last tap."""
    blocks: dict[keras.layers.Layer, int] = {}
    for number, tap in enumerate(row.taps, start=1):
        below = keras.Model(network.input, output_of(network, tap)).layers
        blocks |= {layer: number for layer in below if layer not in blocks}
    return blocks


def block_multipliers(network: keras.Model, row: Backbone, multiplier: float) -> dict[str, Multiplier]:
    """Return learning-rate multipliers by variable: multiplier^n for a block n blocks below the last.

    Discriminative learning rates are from Howard & Ruder (2018), who divide by 2.6 from layer to layer.
    """
    if multiplier == 1:
        return {}
    multipliers: dict[str, Multiplier] = {}
    for layer, block in blocks_of(network, row).items():
        factor = multiplier ** (len(row.taps) - block)
        multipliers |= {var.path: lambda _, factor=factor: factor for var in layer.trainable_weights}
    return multipliers


def cut_of(network: keras.Model, prefix: Prefix) -> KerasTensor:
    """Return the tensor of a network that the cached maps replace."""
    return output_of(network, NECK if prefix.pooling == "average" else prefix.layer)


def destruction_warning(rows: list[dict[str, Any]], n_val: int) -> str | None:
    """Return a warning if the first epoch of fine-tuning destroyed the pretrained weights, or else None.

    It did if val accuracy is below that of the head on the frozen backbone by more than chance explains:
    1.96 standard errors of the difference of two proportions of n_val images.
    """
    top = [row for row in rows if row["stage"] == TOP_STAGE]
    blocks = [row for row in rows if row["stage"] != TOP_STAGE]
    if not (top and blocks and n_val):
        return None
    before, after = top[-1]["val_accuracy"], blocks[0]["val_accuracy"]
    margin = NORMAL_95 * math.sqrt((before * (1 - before) + after * (1 - after)) / n_val)
    if not before - after > margin:
        return None
    best = max(row["val_accuracy"] for row in blocks)
    recovered = f" (later epochs exceeded both: {100 * best:.1f} %)" if best > before else ""
    return (
        f"the first epoch destroyed the pretrained weights: val accuracy {100 * after:.1f} %, "
        f"{100 * before:.1f} % with the backbone frozen; use a smaller --learning-rate (a tenth), "
        f"a longer --warmup, or a --block-lr-multiplier below 1{recovered}"
    )


def join(backbone: keras.Model, top: keras.Model) -> keras.Model:
    """Return one flat network: the backbone (pixels in) and a copy of the top (probabilities out)."""
    x = add_neck(backbone.output, "average")
    for layer in top.layers[1:]:
        copy = type(layer).from_config(layer.get_config())
        x = copy(x)
        copy.set_weights(layer.get_weights())
    return keras.Model(backbone.input, x)
