"""Fine-tuning from cached maps compared with images, and all of VGG16 compared with Keras `fit`.

    python benchmarks/finetune.py [--dataset cifar10] [--weights imagenet] [--images N] [--passes N]
                                  [--rounds N] [--sides NAME,...]

All sides fine-tune VGG16 with a new top by the recipes block5, blocks4_5 and whole on the same training
images of 32 px in memory, one after another, each in its own process. A "-cache" side trains the trainable
blocks from cached maps of both views, unflipped and flipped; extracting them is not timed. An "-images" side
trains the same recipe and computes the frozen blocks in every step, as with --prefix images. The first pass,
which builds the graph, is not timed.

- whole-headstart: the project's loop on the fast copy in bfloat16, as in FineTune;
- whole-keras-float32, whole-keras-bfloat16: Keras `compile` and `fit` of the same network, augmentation,
  batches, optimizer and learning-rate schedule, on a tf.data pipeline (see training.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import luigi
import numpy as np
from training import Images, keras_seconds, start_process, training_examples

from pipeline.backbones.table import BACKBONES
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES

VGG16 = BACKBONES["vgg16"]


@dataclass(frozen=True)
class Side:
    """A way to train a recipe: method is "cache", "images" or "keras"."""

    recipe: str
    method: str
    precision: str = "bfloat16"


SIDES: dict[str, Side] = {
    "block5-images": Side("block5", "images"),
    "block5-cache": Side("block5", "cache"),
    "blocks4_5-images": Side("blocks4_5", "images"),
    "blocks4_5-cache": Side("blocks4_5", "cache"),
    "whole-keras-float32": Side("whole", "keras", "float32"),
    "whole-keras-bfloat16": Side("whole", "keras"),
    "whole-headstart": Side("whole", "images"),
}
BASES = {"block5": "block5-images", "blocks4_5": "blocks4_5-images", "whole": "whole-keras-float32"}
EPOCH = 45_000  # training images of CIFAR-10


def main() -> int:
    """Run all sides and print the table."""
    options = _options()
    if options.side:
        print(json.dumps({"rate": _rate(SIDES[options.side], options)}))
        return 0
    sides = options.sides.split(",")
    if unknown := [side for side in sides if side not in SIDES]:
        sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {unknown[0]!r}")
    if options.passes < 2:
        sys.exit(f"--passes: expected 2 or more, since the first is not timed, received {options.passes}")
    folders, results = _prepare(options), {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides:
            results[side].append(_in_process(side, folders))
            print(f"round {number + 1}: {side}: {results[side][-1]:.0f} images/s", file=sys.stderr)
    print(_table(results), "", _facts(options), sep="\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--weights", default="imagenet", help="pretrained weights (default: imagenet)")
    parser.add_argument("--images", type=int, default=4096, help="training images per pass (default: 4096)")
    parser.add_argument("--passes", type=int, default=3, help="passes, the first not timed (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of all sides (default: 1)")
    parser.add_argument("--sides", default=",".join(SIDES), help="sides to run (default: all)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(options: argparse.Namespace) -> list[str]:
    from tasks import DownloadWeights, PrepareDataset

    tasks = [PrepareDataset(dataset=options.dataset), DownloadWeights(weights=options.weights)]
    if not luigi.build(tasks, local_scheduler=True, log_level="WARNING"):
        sys.exit("preparing the data set and weights failed, see above")
    return ["--folder", str(tasks[0].folder), "--arrays", str(tasks[1].folder)]


def _in_process(side: str, folders: list[str]) -> float:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, *folders]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        sys.exit(f"{side} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])["rate"]


def _rate(side: Side, options: argparse.Namespace) -> float:
    """Return images per second over all passes except the first."""
    from pipeline.backbones.weights import read_weights

    start_process(side.precision)
    recipe = FINE_TUNE_RECIPES[side.recipe]
    examples = training_examples(Images(options.folder, options.images))
    arrays = read_weights(Path(options.arrays))
    model = _network(recipe, arrays, examples)
    if side.method == "keras":
        steps = keras_seconds(recipe, model, examples, batch=recipe.batch_size, passes=options.passes)
        return recipe.batch_size / statistics.mean(steps)
    return _headstart(side, recipe, model, examples, arrays, passes=options.passes)


def _network(recipe, arrays: dict, examples):
    """Return VGG16 from pixels with a new top; the first blocks are frozen as in the recipe."""
    import keras

    from pipeline.backbones.model import build_backbone
    from pipeline.networks.build import add_block, add_classifier, add_neck
    from pipeline.notation import parse_blocks
    from pipeline.schemes.fine_tune import freeze_blocks

    backbone = build_backbone(VGG16, arrays, input_size=examples.inputs.shape[1])
    x = add_neck(backbone.output, "average")
    (block,) = parse_blocks(recipe.dense_blocks, 1, dense=True)
    x = add_block(x, block, name="dense1", width=recipe.units[0], dropout=recipe.dropout)
    model = keras.Model(backbone.input, add_classifier(x, examples.classes))
    freeze_blocks(model, VGG16, recipe.freeze_through)
    return model


def _headstart(side: Side, recipe, model, examples, arrays: dict, *, passes: int) -> float:
    import dataclasses

    from pipeline.networks.fast_copy import fast_copy
    from pipeline.recipes.fine_tune import plan_prefix
    from pipeline.schemes.fine_tune import block_multipliers, cut_of
    from pipeline.training.classifier import Classifier
    from pipeline.training.history import History
    from pipeline.training.loop import fit
    from pipeline.training.stage import Stage

    network, cut = fast_copy(model), None
    if side.method == "cache":
        prefix = plan_prefix(recipe, VGG16, examples.inputs.shape[1])
        maps = np.concatenate([_maps(prefix.layer, view, arrays, examples.inputs) for view in prefix.views])
        examples = dataclasses.replace(examples, inputs=maps, cached_augmentation=True)
        cut = cut_of(network, prefix)
    history, stage = History(), Stage.of(recipe, "blocks", epochs=passes, patience=0)
    multipliers = block_multipliers(network, VGG16, recipe.block_lr_multiplier)
    fit(Classifier(network, cut), examples, stage, seed=0, history=history, multipliers=lambda _: multipliers)
    seconds = np.diff([row["seconds"] for row in history.rows])
    steps = len(examples.train) // recipe.batch_size
    return steps * recipe.batch_size / float(seconds.mean())


def _maps(layer: str, view: str, arrays: dict, images: np.ndarray) -> np.ndarray:
    """Return the maps of a layer for a view, in float16 as FineTune caches them."""
    from pipeline.backbones.engines import PassSpec
    from pipeline.backbones.forward import forward_function
    from pipeline.features.passes import apply_view

    size, viewed = 128, apply_view(images, view)
    side = images.shape[1]
    compute = forward_function(VGG16, arrays, PassSpec(side, side, [(layer, "none")], "bfloat16", size))
    count = len(images) // size * size
    parts = [compute(viewed[at : at + size])[0].astype(np.float16) for at in range(0, count, size)]
    return np.concatenate(parts)


def _table(results: dict[str, list[float]]) -> str:
    """Return medians over the rounds, and an epoch's time relative to the side it is compared with."""
    lines = [
        "| recipe | method | precision | images/s | lowest … highest | epoch of 45,000, s | ratio |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    methods = {"cache": "from cached maps", "images": "from images", "keras": "Keras `fit`"}
    for name, rates in results.items():
        side, rate = SIDES[name], statistics.median(rates)
        base = results.get(BASES[side.recipe])
        ratio = f"{statistics.median(base) / rate:.2f}" if base else "–"
        lines.append(
            f"| {side.recipe} | {methods[side.method]} | {side.precision} | {rate:,.0f} "
            f"| {min(rates):,.0f} … {max(rates):,.0f} | {EPOCH / rate:.0f} | {ratio} |"
        )
    return "\n".join(lines)


def _facts(options: argparse.Namespace) -> str:
    from pipeline import machine

    facts, versions = machine.describe(), machine.versions()
    names = ", ".join(f"{name} {versions[name]}" for name in ("tensorflow", "keras"))
    return (
        f"{options.dataset} at 32 px, weights {options.weights}, {options.passes - 1} passes of "
        f"{options.images} images, rounds: {options.rounds}; "
        f"{facts['processor']}, {facts['cores']} cores; {names}."
    )


if __name__ == "__main__":
    sys.exit(main())
