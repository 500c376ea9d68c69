"""Fine-tuning from cached maps against the same from images, and the whole VGG16 against Keras `fit`.

    python benchmarks/finetune.py [--dataset cifar10] [--weights hed] [--images N] [--passes N] [--rounds N]
                                  [--sides NAME,...]

All sides fine-tune VGG16 with a fresh top by the recipes block5, blocks4_5 and whole on the same training
images of 32 px in memory; each runs in a process of its own, in turn. A side "-cache" trains what moves from
maps of both views, mirrored and not, cached before the clock runs; "-images" is the same recipe with frozen
blocks computed in every step, as it trains with --prefix images. The first pass, which builds the graph, does
not count.

- whole-headstart: the project's loop on the quick copy in bfloat16, as FineTune runs it;
- whole-keras-float32, whole-keras-bfloat16: Keras `compile` and `fit` of the same network, augmentation,
  batches, optimiser and course of the rate, on a tf.data pipeline (see training.py).
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
    """One way to train a recipe: "cache", "images", or "keras"."""

    recipe: str
    how: str
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
    """Run all sides in turn and print the table."""
    options = _options()
    if options.side:
        print(json.dumps({"rate": _rate(SIDES[options.side], options)}))
        return 0
    sides = options.sides.split(",")
    if unknown := [side for side in sides if side not in SIDES]:
        sys.exit(f"--sides: expected some of {', '.join(SIDES)}, received {unknown[0]!r}")
    if options.passes < 2:
        sys.exit(f"--passes: expected 2 or more, since the first does not count, received {options.passes}")
    places, found = _prepared(options), {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides:
            found[side].append(_in_process(side, places))
            print(f"round {number + 1}: {side}: {found[side][-1]:.0f} images/s", file=sys.stderr)
    print(_table(found), "", _facts(options), sep="\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--weights", default="hed", help="pretrained weights (default: hed)")
    parser.add_argument("--images", type=int, default=4096, help="training images of a pass (default: 4096)")
    parser.add_argument("--passes", type=int, default=3, help="passes, the first uncounted (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of all sides in turn (default: 1)")
    parser.add_argument("--sides", default=",".join(SIDES), help="(default: all)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepared(options: argparse.Namespace) -> list[str]:
    from tasks import DownloadWeights, PrepareDataset

    tasks = [PrepareDataset(dataset=options.dataset), DownloadWeights(weights=options.weights)]
    if not luigi.build(tasks, local_scheduler=True, log_level="WARNING"):
        sys.exit("data set and weights could not be prepared, see above")
    return ["--folder", str(tasks[0].folder), "--arrays", str(tasks[1].folder)]


def _in_process(side: str, places: list[str]) -> float:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, *places]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])["rate"]


def _rate(side: Side, options: argparse.Namespace) -> float:
    """Return images a second over all passes but the first."""
    from pipeline.backbones.weights import read_weights

    start_process(side.precision)
    recipe = FINE_TUNE_RECIPES[side.recipe]
    examples = training_examples(Images(options.folder, options.images))
    arrays = read_weights(Path(options.arrays))
    model = _network(recipe, arrays, examples)
    if side.how == "keras":
        steps = keras_seconds(recipe, model, examples, batch=recipe.batch_size, passes=options.passes)
        return recipe.batch_size / statistics.mean(steps)
    return _headstart(side, recipe, model, examples, arrays, passes=options.passes)


def _network(recipe, arrays: dict, examples):
    """Return VGG16 with a fresh top, pixels in, its first blocks frozen as the recipe says."""
    import keras

    from pipeline.backbones.model import build_backbone
    from pipeline.networks.build import add_block, add_classifier, add_neck
    from pipeline.notation import parse_dense_blocks
    from pipeline.schemes.fine_tune import freeze_blocks

    backbone = build_backbone(VGG16, arrays, input_size=examples.inputs.shape[1])
    x = add_neck(backbone.output, "average")
    (block,) = parse_dense_blocks(recipe.dense_blocks, 1)
    x = add_block(x, block, name="dense1", width=recipe.units[0], dropout=recipe.dropout)
    model = keras.Model(backbone.input, add_classifier(x, examples.classes))
    freeze_blocks(model, VGG16, recipe.freeze_through)
    return model


def _headstart(side: Side, recipe, model, examples, arrays: dict, *, passes: int) -> float:
    import dataclasses

    from pipeline.networks.fast_copy import quick_copy
    from pipeline.recipes.prefix import plan_prefix
    from pipeline.schemes.fine_tune import block_multipliers, cut_of
    from pipeline.training.classifier import Classifier
    from pipeline.training.history import History
    from pipeline.training.loop import fit
    from pipeline.training.stage import Stage

    network, cut = quick_copy(model), None
    if side.how == "cache":
        prefix = plan_prefix(recipe, VGG16)
        maps = np.concatenate([_maps(prefix.layer, view, arrays, examples.inputs) for view in prefix.views])
        examples = dataclasses.replace(examples, inputs=maps, varied=True)
        cut = cut_of(network, prefix)
    history, stage = History(), Stage.of(recipe, "blocks", epochs=passes, patience=0)
    multipliers = block_multipliers(network, VGG16, recipe.block_lr_multiplier)
    fit(Classifier(network, cut), examples, stage, seed=0, history=history, multipliers=lambda _: multipliers)
    seconds = np.diff([row["seconds"] for row in history.rows])
    steps = len(examples.train) // recipe.batch_size
    return steps * recipe.batch_size / float(seconds.mean())


def _maps(layer: str, view: str, arrays: dict, images: np.ndarray) -> np.ndarray:
    """Return the maps of a layer under a view, in float16 as FineTune has them cached."""
    from pipeline.backbones.forward import forward_function
    from pipeline.features.passes import show

    size, shown = 128, show(images, view)
    compute = forward_function(
        VGG16,
        arrays,
        image_size=images.shape[1],
        input_size=images.shape[1],
        layers=[layer],
        pooling="none",
        precision="bfloat16",
        batch_size=size,
    )
    whole = len(images) // size * size
    parts = [compute(shown[at : at + size])[0].astype(np.float16) for at in range(0, whole, size)]
    return np.concatenate(parts)


def _table(found: dict[str, list[float]]) -> str:
    """Return medians over the rounds, and an epoch as a share of the side that it is compared with."""
    lines = [
        "| recipe | how | precision | images/s | lowest … highest | an epoch of 45,000, s | share |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    words = {"cache": "from cached maps", "images": "from images", "keras": "Keras `fit`"}
    for name, rates in found.items():
        side, rate = SIDES[name], statistics.median(rates)
        base = found.get(BASES[side.recipe])
        share = f"{statistics.median(base) / rate:.2f}" if base else "–"
        lines.append(
            f"| {side.recipe} | {words[side.how]} | {side.precision} | {rate:,.0f} "
            f"| {min(rates):,.0f} … {max(rates):,.0f} | {EPOCH / rate:.0f} | {share} |"
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
