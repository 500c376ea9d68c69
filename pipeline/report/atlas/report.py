"""The layer atlas of cached features as a folder: two tables, two plots, a cut for fine-tuning, a page.

The cut is chosen on val only. Among the single blocks whose logistic regression is within the 95 % interval
of the best one, freeze up to the deepest: up to there the features separate the classes about as well as
anywhere, and later blocks do worse on this data. If the last block is among them, only it is trained.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.backbones.table import weights_name
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.formatting import describe_sizes, format_interval, format_value
from pipeline.progress import Progress, silent
from pipeline.report.atlas import tables
from pipeline.report.atlas.layer_sets import LOGISTIC, short_name
from pipeline.report.atlas.pictures import draw_classes, draw_depth
from pipeline.report.drawing import publish_figure
from pipeline.results.comparison import TEXT_WIDTH
from pipeline.results.scores import highest_row, lowest_row
from pipeline.runs.result import data_of
from pipeline.storage import publishing

TABLE_FILE, CLASS_FILE, CUT_FILE, MARKDOWN_FILE = "atlas.csv", "per_class.csv", "cut.json", "atlas.md"
DEPTH_PLOT, CLASS_PLOT = "accuracy_by_depth.png", "per_class_by_depth.png"
ATLAS_FILES = [TABLE_FILE, CLASS_FILE, CUT_FILE, MARKDOWN_FILE, DEPTH_PLOT, CLASS_PLOT]
TRAINED = "The trained blocks after the cut take {} of the network's multiply-adds."
RULE = (
    "The cut is after the deepest block whose own accuracy on val is within the 95 % interval of the best "
    "block's; test images are not used. This is a rule of thumb based on frozen features: only a run shows "
    "how accurate fine-tuning gets, and training more blocks may be more accurate at a higher cost."
)


@dataclass(frozen=True, eq=False)
class Atlas:
    """An atlas read from its folder: the table, its cut, and the caption of its plots.

    words explain the cut; command fine-tunes with it.
    """

    folder: Path
    table: pd.DataFrame
    freeze_through: int
    words: str
    command: str
    caption: str


def publish_atlas(
    fingerprint: dict[str, Any],
    command: str,
    dataset: str,
    features: str,
    folder: str,
    progress: Progress = silent,
) -> str:
    """Probe all layer sets of cached features, publish the atlas in folder, and return its cut as text.

    command is the fine-tuning command without the number of frozen blocks. Existing intact tables are not
    probed again: missing plots or pages are made from them.
    """
    target, images, store = Path(folder), ImageStore(dataset), FeatureStore(features)
    if not {TABLE_FILE, CLASS_FILE} <= publishing.undamaged_files(target, {}):
        from pipeline import numerics  # loads TensorFlow, which a reader of the atlas does not need
        from pipeline.report.atlas.probe import probe_layers

        numerics.configure(seed=0, precision="float32")
        probes = probe_layers(store, len(images.class_names), progress)
        costs = tables.costs_by_depth(store.folder)
        publishing.publish_csv(target / TABLE_FILE, tables.atlas_table(probes, costs))
        labels = store.labels[store.rows("test")]
        publishing.publish_csv(target / CLASS_FILE, tables.class_table(probes, labels, images.class_names))
    table, classes = _read_table(target / TABLE_FILE), _read_table(target / CLASS_FILE)
    cut = choose_cut(table)
    facts: dict[str, Any] = {
        "freeze_through": cut.freeze_through,
        "words": cut.words,
        "command": f"{command} --freeze-through {cut.freeze_through}",
        "caption": caption_of(images, store.base),
    }
    atlas = Atlas(folder=target, table=table, **facts)
    publishing.publish_json(target / CUT_FILE, facts)
    publish_figure(target / DEPTH_PLOT, draw_depth, table, cut.freeze_through, atlas.caption)
    publish_figure(target / CLASS_PLOT, draw_classes, classes, atlas.caption, colors=None)
    publishing.publish_text(target / MARKDOWN_FILE, f"# Layer atlas\n\n{atlas_markdown(atlas)}\n")
    publishing.publish_manifest(target, fingerprint, ATLAS_FILES)
    return atlas_text(atlas)


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"blocks": str, "class": str}, keep_default_na=False)


def read_atlas(folder: Path) -> Atlas:
    """Return a finished atlas; raise DamagedFile if a file does not match its manifest."""
    manifest = publishing.read_manifest(folder)
    cut = json.loads(manifest.verified(CUT_FILE).read_text(encoding="utf-8"))
    return Atlas(folder=Path(folder), table=_read_table(manifest.verified(TABLE_FILE)), **cut)


def caption_of(images: ImageStore, base: dict[str, Any]) -> str:
    """Return the caption of the plots: data set with sizes; weights, precision and input size of features."""
    recipe: dict[str, Any] = {"dataset_title": images.row.title, "dataset_note": images.row.note}
    recipe |= {f"n_{split}": count for split, count in images.counts.items()}
    sizes = describe_sizes({"image_size": images.image_size, "input_size": base["input_size"]})
    features = f"weights {weights_name(base['weights'])} · {sizes} · features {base['precision']}"
    return f"{data_of(recipe)} · {features} · fitted on train, chosen on val"


def atlas_text(atlas: Atlas, width: int = TEXT_WIDTH) -> str:
    """Return the explanation of the cut wrapped to width columns, then the command on its own line."""
    return "\n".join([*textwrap.wrap(atlas.words, width, break_on_hyphens=False), f"    {atlas.command}"])


def atlas_markdown(atlas: Atlas, folder: str = "") -> str:
    """Return an atlas as Markdown without a title; folder ends in a slash and is the path to the plots."""
    depth = "Test accuracy of single and concatenated blocks by depth, and the cost up to each depth."
    classes = "Test accuracy of each class by layer set."
    parts = [f"{atlas.words} `{atlas.command}`", f"![{depth} {atlas.caption}]({folder}{DEPTH_PLOT})"]
    parts += [tables.sets_markdown(atlas.table), f"{tables.COLUMNS_EXPLAINED} {atlas.caption}."]
    parts += [RULE, narrowest_words(atlas.table)]
    return "\n\n".join([*parts, f"![{classes} {atlas.caption}]({folder}{CLASS_PLOT})"])


@dataclass(frozen=True)
class Cut:
    """A cut after a block: freeze_through is the block's number, words explain the choice."""

    freeze_through: int
    words: str


def choose_cut(table: pd.DataFrame) -> Cut:
    """Return the cut for an atlas's table by the rule of this module."""
    blocks = table[(table["head"] == LOGISTIC) & table["blocks"].str.isdecimal()]
    blocks = blocks.set_index("depth", drop=False).sort_index()
    best = highest_row(blocks, "val_accuracy")
    deepest = blocks[blocks["val_accuracy"] >= best["val_accuracy_low"]].iloc[-1]
    block, last = int(deepest["depth"]), int(blocks.index[-1])
    through = min(block, last - 1)
    reason = f"block {block} is the most accurate single block with {_on_val(best)}"
    if block != best["depth"]:
        reason = (
            f"block {block} with {format_value(deepest['val_accuracy'], '%')} is the deepest single block "
            f"within the interval of the best, block {best['depth']} with {_on_val(best)}"
        )
    if block == last:
        reason += (
            ". The last block does not clearly lose accuracy, so a head on frozen features may be enough. To "
            "fine-tune anyway, train the last block, which is the most specific to the pretraining data"
        )
    else:
        after = format_value(blocks["val_accuracy"].loc[block + 1], "%")
        reason += (
            f"; block {block + 1} drops to {after}. The frozen features separate the classes about as well "
            "as those of any block; the later blocks do worse and should be trained"
        )
    trained = format_value(1 - blocks["multiply_adds_share"].get(through, 0.0), "%")
    return Cut(through, f"Cut after block {through}: {reason}. {TRAINED.format(trained)}")


def narrowest_words(table: pd.DataFrame) -> str:
    """Return a sentence naming the smallest layer set within the interval of the best on val."""
    sets = table[table["head"] == LOGISTIC]
    best = highest_row(sets, "val_accuracy")
    within = sets[sets["val_accuracy"] >= best["val_accuracy_low"]]
    narrowest = lowest_row(within, "width")
    text = f"Best features for a head: {_blocks(best)} with {_on_val(best)}"
    if narrowest["blocks"] == best["blocks"]:
        return f"{text}; no set with fewer features is within that interval."
    return (
        f"{text}. The fewest features within that interval are the {narrowest['width']:,} of "
        f"{_blocks(narrowest)}, with {format_value(narrowest['val_accuracy'], '%')}."
    )


def _on_val(row: pd.Series) -> str:
    interval = format_interval(row["val_accuracy"], row["val_accuracy_low"], row["val_accuracy_high"])
    return f"{interval} on {row['n_val']:,} val images"


def _blocks(row: pd.Series) -> str:
    return f"block{'s' * ('+' in row['blocks'])} {short_name(row['blocks'])}"
