"""The graph of chaos.py: a comparison of three schemes on 320 digits, with features in five small shards.

An extension (see HEADSTART_EXTENSIONS): it adds the preset `chaos`. CHAOS_LOG names a file that gets a line
for each finished shard: the section's folder and the shard's number.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.features import sections
from pipeline.recipes.presets import PRESETS, Plan, Preset

IMAGES_IN_SHARD = 64
LAYERS = {"layers": ["block1_pool", "block2_pool"]}

PRESETS["chaos"] = Preset(
    name="chaos",
    title="Small heads and a network from scratch",
    dataset="digits",
    subset=5 * IMAGES_IN_SHARD,
    weights="random",
    seeds=(0,),
    plans=(
        Plan("head:ridge", LAYERS),
        Plan("head:linear", {**LAYERS, "epochs": 5}),
        Plan("from-scratch:lesson", {"epochs": 4, "filters": [4]}),
    ),
)
sections.SHARD_BYTES, sections.shard_step = 1, lambda base: IMAGES_IN_SHARD


def log_shards(path: Path) -> None:
    """Append a line to a file for each shard that this process finishes."""
    from pipeline.features.shards import ShardWriter  # imports NumPy, which planning does not

    write = ShardWriter._write

    def write_and_log(writer, shard) -> None:
        write(writer, shard)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{shard.section.folder.name} {shard.number}\n")

    ShardWriter._write = write_and_log


if "CHAOS_LOG" in os.environ:
    log_shards(Path(os.environ["CHAOS_LOG"]))
