"""Fine-tune a pretrained backbone: fit a fresh top first, then backpropagate through what is not frozen."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.heads.data import HeadData
from pipeline.heads.model import with_probabilities
from pipeline.heads.network import build_answers
from pipeline.networks.build import add_neck
from pipeline.training.loop import Classifier, Examples, History, Stage, fit
from pipeline.training.record import Job, Trained

if TYPE_CHECKING:
    import keras

TOP_BATCH = 256  # images in one update while only the top is fitted, where a step costs next to nothing


def fine_tune(job: Job) -> Trained:
    """Return the whole network, pixels in: its top fitted on cached features, then trained with the rest."""
    recipe, images, history = job.recipe, job.images, History()
    row = BACKBONES[job.backbone]
    with job.clock.stage("read images"):
        pixels = images.images()
    examples = Examples.of(images, pixels, len(images.class_names), given=recipe.labels)
    with job.clock.stage("top"):
        seen = dataclasses.replace(examples, inputs=job.features.load(row.taps[-1:]))
        answers = build_answers(HeadData(seen), recipe.dense_blocks, recipe.units, recipe.dropout)
        top = with_probabilities(answers, None)
        interrupted = job.checkpoint is not None and job.checkpoint.stage == "blocks"  # it holds the top, too
        stage = Stage.of(
            recipe,
            "top",
            epochs=0 if interrupted else recipe.top_epochs,
            learning_rate=recipe.top_learning_rate,
            batch_size=TOP_BATCH,
            flip=False,
            shift=0,
        )
        told = {"seed": job.seed, "history": history, "progress": job.progress, "watch": job.watch}
        told["checkpoint"] = job.checkpoint
        fit(Classifier(top), seen, stage, **told)
    with job.clock.stage("blocks"):
        backbone = build_backbone(row, read_weights(job.weights), input_size=pixels.shape[1])
        freeze_blocks(backbone, recipe.freeze_through)
        whole = Classifier(join(backbone, top))
        stage = Stage.of(recipe, "blocks", salt=1, epochs=examples.epochs(recipe))
        fit(whole, examples, stage, **told)
    rows = job.rows()
    with job.clock.stage("predict"):
        probabilities = whole.predict(pixels, rows)
    return Trained(whole.model, history, rows, probabilities, n_train=len(examples.train))


def freeze_blocks(backbone: keras.Model, through: int) -> None:
    """Freeze blocks 1 … through of a backbone and free the others; frozen layers stay in inference mode."""
    for layer in backbone.layers:
        name, _, _ = layer.name.partition("_")
        if name.startswith("block"):
            layer.trainable = int(name.removeprefix("block")) > through


def join(backbone: keras.Model, top: keras.Model) -> keras.Model:
    """Return one flat network from the backbone's pixels to the probabilities of a copy of the top."""
    import keras

    x = add_neck(backbone.output, "average")
    for layer in top.layers[1:]:
        copy = type(layer).from_config(layer.get_config())
        x = copy(x)
        copy.set_weights(layer.get_weights())
    return keras.Model(backbone.input, x)
