"""Fine-tune a pretrained backbone: fit a fresh top first, then backpropagate through what is not frozen."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import KerasTensor

from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES, RANDOM_IDENTITY, Backbone
from pipeline.backbones.weights import read_weights
from pipeline.heads.data import HeadData
from pipeline.heads.fit import read_choice
from pipeline.heads.model import with_probabilities
from pipeline.heads.network import build_answers
from pipeline.networks.build import NECK, add_neck
from pipeline.networks.fast_copy import quick_copy
from pipeline.networks.view_averaging import over_views
from pipeline.recipes.fine_tune import FineTuneRecipe, top_head
from pipeline.recipes.prefix import Prefix
from pipeline.storage.publishing import read_manifest
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples
from pipeline.training.history import History
from pipeline.training.job import Job, Trained
from pipeline.training.optimizers import Multiplier
from pipeline.training.stage import Stage

TOP, BLOCKS = "top", "blocks"
NORMAL_95 = 1.96  # standard deviations on either side that hold 95 % of a normal distribution

logger = logging.getLogger(__name__)


def fine_tune(job: Job[FineTuneRecipe]) -> Trained:
    """Return the whole network, pixels in: its top fitted on cached features, then trained with the rest.

    With the job's maps what is frozen is not computed: the rest is trained from the cached maps at the cut.
    """
    recipe, images, history = job.recipe, job.images, History()
    row = BACKBONES[job.backbone]
    choice: dict[str, Any] = read_choice(job.sweep) if job.sweep else {"settings": {}, "seconds": 0.0}
    with job.clock.stage("read images"):
        pixels = images.images()
    examples = Examples.of(images, pixels, len(images.class_names), budget=recipe.label_budget)
    with job.clock.stage(TOP):
        top = _fitted_top(job, examples, history, choice["settings"])
    with job.clock.stage("read weights"):
        assert job.weights is not None
        model = join(build_backbone(row, read_weights(job.weights), input_size=pixels.shape[1]), top)
        quick = quick_copy(model)
    prefix = job.prefix or Prefix(False, "from images, because no maps were given")
    with job.clock.stage("read maps"):
        if job.maps is not None and prefix.cached:
            maps = [job.maps.load([prefix.layer], view, as_stored=True) for view in prefix.views]
            examples = replace(examples, inputs=np.concatenate(maps), varied=True)
    with job.clock.stage(BLOCKS):
        _move_blocks(job, quick, examples, history, prefix)
    freeze_blocks(model, row, recipe.freeze_through)
    model.set_weights(quick.get_weights())
    rows, network = job.rows(), Classifier(over_views(model, recipe.test_views))
    with job.clock.stage("predict"):
        probabilities = network.predict(pixels, rows)
    destroyed = why_destroyed(history.rows, len(examples.val)) if _pretrained(job) else None
    facts = {"prefix": prefix.why, "top": choice["settings"], "warnings": [destroyed] if destroyed else []}
    n_train, seconds = len(examples.train), choice["seconds"]
    return Trained(
        network.model, history, rows, probabilities, n_train=n_train, tune_seconds=seconds, facts=facts
    )


def _fitted_top(
    job: Job[FineTuneRecipe], examples: Examples, history: History, chosen: dict[str, Any]
) -> keras.Model:
    """Return the top, features in, fitted with settings that a sweep chose; its dropout is the recipe's."""
    recipe, layer = job.recipe, BACKBONES[job.backbone].taps[-1]
    head = top_head(recipe, layer, chosen)
    assert job.features is not None
    seen = replace(examples, inputs=job.features.load([layer]))
    data = HeadData(seen, floor=head.variance_floor)

    def built(dropout: float) -> keras.Model:
        return with_probabilities(build_answers(data, head.dense_blocks, head.units, dropout), None)

    fitted, top = built(head.dropout), built(recipe.dropout)
    later = job.checkpoint is not None and job.checkpoint.stage not in (None, TOP)  # it holds the top, too
    stage = Stage.of(head, TOP, epochs=0 if later else head.epochs)
    job.fit(Classifier(fitted), seen, stage, history=history)
    top.set_weights(fitted.get_weights())
    return top


def _move_blocks(
    job: Job[FineTuneRecipe], network: keras.Model, examples: Examples, history: History, prefix: Prefix
) -> None:
    """Train what moves of a whole network; from maps, where examples are such, or from its pixels."""
    recipe, row = job.recipe, BACKBONES[job.backbone]
    stages = list(stages_of(recipe, len(row.taps), examples.epochs(recipe)))
    names = [stage.name for stage, _ in stages]
    kept = job.checkpoint.stage if job.checkpoint else None
    first = names.index(kept) if kept in names else 0

    def watch(so_far: History) -> None:
        moved = [line for line in so_far.rows if line["stage"] != TOP]
        destroyed = why_destroyed(so_far.rows, len(examples.val))
        if len(moved) == 1 and destroyed and _pretrained(job):
            logger.warning(destroyed)
        if job.watch:
            job.watch(so_far)

    def multipliers(_: int) -> dict[str, Multiplier]:
        return block_multipliers(network, row, recipe.block_lr_multiplier)

    for stage, through in stages[first:]:
        freeze_blocks(network, row, through)
        part = Classifier(network, cut_of(network, prefix) if prefix.cached else None)
        job.fit(part, examples, stage, history=history, watch=watch, multipliers=multipliers)


def _pretrained(job: Job[FineTuneRecipe]) -> bool:
    """Say whether the weights were learnt; random ones cannot be destroyed."""
    assert job.weights is not None
    return not read_manifest(job.weights).fingerprint.get("identity", "").startswith(RANDOM_IDENTITY)


def stages_of(recipe: FineTuneRecipe, blocks: int, epochs: int) -> Iterator[tuple[Stage, int]]:
    """Yield stages of training and how many blocks are frozen in each, fewer from one to the next.

    Gradual unfreezing is that of Howard & Ruder (2018, "Universal Language Model Fine-tuning"), with a course
    of the rate for each stage.
    """
    steps = range(blocks - 1, recipe.freeze_through, -1) if recipe.unfreeze_epochs else ()
    for number, through in enumerate(steps, start=1):
        name = f"{BLOCKS} from {through + 1}"
        yield Stage.of(recipe, name, salt=1 + number, epochs=recipe.unfreeze_epochs), through
    rest = epochs - recipe.unfreeze_epochs * len(steps)
    last = Stage.of(recipe, BLOCKS, salt=1, epochs=max(0, rest), patience=recipe.patience)
    yield last, recipe.freeze_through


def freeze_blocks(network: keras.Model, row: Backbone, through: int) -> None:
    """Freeze blocks 1 … through of a backbone and free the others; frozen layers stay in inference mode."""
    for layer in network.layers:
        if block := row.block_of(layer.name):
            layer.trainable = block > through


def block_multipliers(network: keras.Model, row: Backbone, multiplier: float) -> dict[str, Multiplier]:
    """Return learning-rate multipliers by variable: one more factor for each block below the last.

    Discriminative rates are those of Howard & Ruder (2018), who divide by 2.6 from layer to layer.
    """
    if multiplier == 1:
        return {}
    found: dict[str, Multiplier] = {}
    for layer in network.layers:
        if block := row.block_of(layer.name):
            factor = multiplier ** (len(row.taps) - block)
            found |= {variable.path: lambda _, factor=factor: factor for variable in layer.trainable_weights}
    return found


def cut_of(network: keras.Model, prefix: Prefix) -> KerasTensor:
    """Return the tensor of a whole network in whose place the cached maps are put in."""
    return network.get_layer(NECK if prefix.pooling == "average" else prefix.layer).output


def why_destroyed(rows: list[dict[str, Any]], n_val: int) -> str | None:
    """Return in words that the first epoch of moving blocks destroyed the pretrained weights, or None.

    It did where val accuracy fell below that of the frozen backbone's head by more than chance would have
    it: 1.96 standard errors of the difference of two shares of n_val images.
    """
    top = [row for row in rows if row["stage"] == TOP]
    moved = [row for row in rows if row["stage"] != TOP]
    if not (top and moved and n_val):
        return None
    before, after = top[-1]["val_accuracy"], moved[0]["val_accuracy"]
    margin = NORMAL_95 * math.sqrt((before * (1 - before) + after * (1 - after)) / n_val)
    if not before - after > margin:
        return None
    best = max(row["val_accuracy"] for row in moved)
    beyond = f" (later epochs got beyond both: {100 * best:.1f} %)" if best > before else ""
    return (
        f"the first epoch destroyed pretrained weights: {100 * after:.1f} % on val behind it, "
        f"{100 * before:.1f} % with the frozen backbone's head; take a smaller --learning-rate (a tenth), "
        f"a longer --warmup, or a --block-lr-multiplier below 1{beyond}"
    )


def join(backbone: keras.Model, top: keras.Model) -> keras.Model:
    """Return one flat network from the backbone's pixels to the probabilities of a copy of the top."""
    x = add_neck(backbone.output, "average")
    for layer in top.layers[1:]:
        copy = type(layer).from_config(layer.get_config())
        x = copy(x)
        copy.set_weights(layer.get_weights())
    return keras.Model(backbone.input, x)
