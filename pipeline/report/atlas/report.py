"""The layer atlas of cached features as a folder: two tables, two pictures, a cut for fine-tuning, a page.

The cut follows a rule on val alone: among the single blocks whose logistic regression is as accurate on val
as the best one's 95 % interval allows, freeze up to the deepest. Up to there the features separate the
classes as well as anywhere; after it they lose for this data. If the last block is among them, it alone is
trained.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import numerics
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.features.store import FeatureStore
from pipeline.formatting import format_interval, format_value
from pipeline.progress import Progress, silent
from pipeline.report.atlas import tables
from pipeline.report.atlas.layer_sets import LOGISTIC, short_name
from pipeline.report.atlas.pictures import draw_classes, draw_depth
from pipeline.report.atlas.probe import probe_layers
from pipeline.report.drawing import publish_figure
from pipeline.results.comparison import TEXT_WIDTH
from pipeline.results.scores import highest_row, lowest_row
from pipeline.runs.result import data_of
from pipeline.storage import publishing

TABLE, CLASSES, CUT, PAGE = "atlas.csv", "per_class.csv", "cut.json", "atlas.md"
DEPTH_PICTURE, CLASS_PICTURE = "accuracy_by_depth.png", "per_class_by_depth.png"
FILES = [TABLE, CLASSES, CUT, PAGE, DEPTH_PICTURE, CLASS_PICTURE]
MOVED = "Behind the cut lie {} of the network's multiply-adds, the part that every step trains."
RULE = (
    "The cut lies behind the deepest block alone whose accuracy on val is within the 95 % interval of the "
    "best block's; no test image had a say. It is a rule of thumb from frozen features: how far fine-tuning "
    "gets from there only a run can tell, and more blocks that move may get further, at a higher price."
)


@dataclass(frozen=True, eq=False)
class Atlas:
    """An atlas read from its folder: the table, where it cuts and why, and the line under its pictures.

    words are sentences, command fine-tunes so.
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
    """Probe all layer sets of cached features, publish the atlas in folder, and say its cut for a terminal.

    command fine-tunes but for the number of frozen blocks. Tables that are there and whole are not probed
    again: a picture or a page that was lost is made from them.
    """
    target, images, store = Path(folder), ImageStore(dataset), FeatureStore(features)
    if not {TABLE, CLASSES} <= publishing.whole_files(target, {}):
        numerics.start(seed=0, precision="float32")
        probes = probe_layers(store, len(images.class_names), progress)
        publishing.publish_csv(
            target / TABLE, tables.atlas_table(probes, tables.costs_by_depth(store.folder))
        )
        labels = store.labels[store.rows("test")]
        publishing.publish_csv(target / CLASSES, tables.class_table(probes, labels, images.class_names))
    table, classes = _read_table(target / TABLE), _read_table(target / CLASSES)
    cut, size = choose_cut(table), store.base["input_size"]
    doubt = f" Fine-tuning shows images at {IMAGE_SIZE} px, these features saw them at {size} px."
    said: dict[str, Any] = {
        "freeze_through": cut.freeze_through,
        "words": cut.words + (doubt if size != IMAGE_SIZE else ""),
        "command": f"{command} --freeze-through {cut.freeze_through}",
        "caption": caption_of(images, store.base),
    }
    atlas = Atlas(folder=target, table=table, **said)
    publishing.publish_json(target / CUT, said)
    publish_figure(target / DEPTH_PICTURE, draw_depth, table, cut.freeze_through, atlas.caption)
    publish_figure(target / CLASS_PICTURE, draw_classes, classes, atlas.caption, colours=None)
    publishing.publish_text(target / PAGE, f"# Layer atlas\n\n{atlas_markdown(atlas)}\n")
    publishing.publish_manifest(target, fingerprint, FILES)
    return atlas_text(atlas)


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"blocks": str, "class": str}, keep_default_na=False)


def read_atlas(folder: Path) -> Atlas:
    """Return a finished atlas; raise DamagedFile where a file is not what its manifest says."""
    manifest = publishing.read_manifest(folder)
    cut = json.loads(manifest.verified(CUT).read_text(encoding="utf-8"))
    return Atlas(folder=Path(folder), table=_read_table(manifest.verified(TABLE)), **cut)


def caption_of(images: ImageStore, base: dict[str, Any]) -> str:
    """Return the line under the pictures: data set with sizes, weights, precision and size of features."""
    recipe: dict[str, Any] = {"dataset_title": images.row.title, "dataset_note": images.row.note}
    recipe |= {f"n_{split}": count for split, count in images.counts.items()}
    features = f"weights {base['weights']['name']} · features {base['precision']} at {base['input_size']} px"
    return f"{data_of(recipe)} · {features} · fitted on train, chosen on val"


def atlas_text(atlas: Atlas, width: int = TEXT_WIDTH) -> str:
    """Return what an atlas says, for a terminal of so many columns; the command has a line of its own."""
    return "\n".join([*textwrap.wrap(atlas.words, width, break_on_hyphens=False), f"    {atlas.command}"])


def atlas_markdown(atlas: Atlas, folder: str = "") -> str:
    """Return an atlas as Markdown without a title; folder, with a slash, leads from there to the pictures."""
    depth = "Test accuracy of each block alone and of joins against depth, and the cost up to there."
    classes = "Test accuracy of each class by layer set."
    parts = [f"{atlas.words} `{atlas.command}`", f"![{depth} {atlas.caption}]({folder}{DEPTH_PICTURE})"]
    parts += [tables.sets_markdown(atlas.table), f"{tables.COLUMNS_EXPLAINED} {atlas.caption}."]
    parts += [RULE, narrowest_words(atlas.table)]
    return "\n\n".join([*parts, f"![{classes} {atlas.caption}]({folder}{CLASS_PICTURE})"])


@dataclass(frozen=True)
class Cut:
    """A cut behind a block: freeze_through is its number, words say why."""

    freeze_through: int
    words: str


def choose_cut(table: pd.DataFrame) -> Cut:
    """Return the cut that the rule of this module chooses by an atlas's table."""
    alone = table[(table["head"] == LOGISTIC) & table["blocks"].str.isdecimal()]
    alone = alone.set_index("depth", drop=False).sort_index()
    best = highest_row(alone, "val_accuracy")
    deepest = alone[alone["val_accuracy"] >= best["val_accuracy_low"]].iloc[-1]
    block, last = int(deepest["depth"]), int(alone.index[-1])
    through = min(block, last - 1)
    why = f"block {block} alone is the best, with {_on_val(best)}"
    if block != best["depth"]:
        why = (
            f"block {block} is the deepest that alone, with {format_value(deepest['val_accuracy'], '%')}, "
            f"is within the interval of the best, block {best['depth']} with {_on_val(best)}"
        )
    if block == last:
        why += (
            ", so that no block loses what those before it found and a head on frozen features may do. To "
            "fine-tune all the same, move the last block, which is the most specific to what the network "
            "learned before"
        )
    else:
        after = format_value(alone["val_accuracy"].loc[block + 1], "%")
        why += (
            f"; block {block + 1} falls to {after}. Frozen up to there, the network keeps features that tell "
            "the classes apart about as well as any block's do; the blocks behind lose that and should move"
        )
    moved = format_value(1 - alone["multiply_adds_share"].get(through, 0.0), "%")
    return Cut(through, f"Cut behind block {through}: {why}. {MOVED.format(moved)}")


def narrowest_words(table: pd.DataFrame) -> str:
    """Return in words the set with the fewest features within the interval of the best on val."""
    sets = table[table["head"] == LOGISTIC]
    best = highest_row(sets, "val_accuracy")
    near = sets[sets["val_accuracy"] >= best["val_accuracy_low"]]
    narrow = lowest_row(near, "width")
    words = f"For a head on frozen features, those of {_blocks(best)} are best: {_on_val(best)}"
    if narrow["blocks"] == best["blocks"]:
        return f"{words}; no set with fewer features comes within that interval."
    return (
        f"{words}. The fewest features within that interval are the {narrow['width']:,} of "
        f"{_blocks(narrow)}, with {format_value(narrow['val_accuracy'], '%')}."
    )


def _on_val(row: pd.Series) -> str:
    interval = format_interval(row["val_accuracy"], row["val_accuracy_low"], row["val_accuracy_high"])
    return f"{interval} of {row['n_val']:,} val images"


def _blocks(row: pd.Series) -> str:
    return f"block{'s' * ('+' in row['blocks'])} {short_name(row['blocks'])}"
