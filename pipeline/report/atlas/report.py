"""An atlas from cached features to its folder: two tables, two pictures, the cut, and a page of it all."""

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
from pipeline.progress import Progress, silent
from pipeline.report.atlas.costs import costs_by_depth
from pipeline.report.atlas.cut import RULE, choose_cut, narrowest_words
from pipeline.report.atlas.pictures import draw_classes, draw_depth
from pipeline.report.atlas.probe import probe_layers
from pipeline.report.atlas.tables import COLUMNS_EXPLAINED, atlas_table, class_table, sets_markdown
from pipeline.report.figure import publish_figure
from pipeline.results.comparison import TEXT_WIDTH
from pipeline.runs.result import data_of
from pipeline.storage.publishing import (
    publish_csv,
    publish_json,
    publish_manifest,
    publish_text,
    read_manifest,
    whole_files,
)

TABLE, CLASSES, CUT, PAGE = "atlas.csv", "per_class.csv", "cut.json", "atlas.md"
DEPTH_PICTURE, CLASS_PICTURE = "accuracy_by_depth.png", "per_class_by_depth.png"
FILES = [TABLE, CLASSES, CUT, PAGE, DEPTH_PICTURE, CLASS_PICTURE]


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
    if not {TABLE, CLASSES} <= whole_files(target, {}):
        _publish_tables(target, images, store, progress)
    table, classes = _read_table(target / TABLE), _read_table(target / CLASSES)
    cut = choose_cut(table)
    said: dict[str, Any] = {
        "freeze_through": cut.freeze_through,
        "words": f"{cut.words}{_doubt(store.base)}",
        "command": f"{command} --freeze-through {cut.freeze_through}",
        "caption": caption_of(images, store.base),
    }
    atlas = Atlas(folder=target, table=table, **said)
    publish_json(target / CUT, said)
    publish_figure(target / DEPTH_PICTURE, draw_depth, table, cut.freeze_through, atlas.caption)
    publish_figure(target / CLASS_PICTURE, draw_classes, classes, atlas.caption, colours=None)
    publish_text(target / PAGE, f"# Layer atlas\n\n{atlas_markdown(atlas)}\n")
    publish_manifest(target, fingerprint, FILES)
    return atlas_text(atlas)


def _doubt(base: dict[str, Any]) -> str:
    """Return what has to be added where fine-tuning sees other images than the features did."""
    if base["input_size"] == IMAGE_SIZE:
        return ""
    return (
        f" Fine-tuning shows images at {IMAGE_SIZE} px, these features saw them at {base['input_size']} px."
    )


def _publish_tables(target: Path, images: ImageStore, store: FeatureStore, progress: Progress) -> None:
    numerics.start(seed=0, precision="float32")
    probes = probe_layers(store, len(images.class_names), progress)
    table = atlas_table(probes, costs_by_depth(store.folder))
    classes = class_table(probes, store.labels[store.rows("test")], images.class_names)
    for name, rows in ((TABLE, table), (CLASSES, classes)):
        publish_csv(target / name, rows)


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"blocks": str, "class": str}, keep_default_na=False)


def read_atlas(folder: Path) -> Atlas:
    """Return a finished atlas; raise DamagedFile where a file is not what its manifest says."""
    manifest = read_manifest(folder)
    cut = json.loads(manifest.verified(CUT).read_text(encoding="utf-8"))
    return Atlas(folder=Path(folder), table=_read_table(manifest.verified(TABLE)), **cut)


def caption_of(images: ImageStore, base: dict[str, Any]) -> str:
    """Return the line under the pictures: data set with sizes, weights, precision and size of features."""
    recipe: dict[str, Any] = {"dataset_title": images.row.title, "dataset_note": images.row.note}
    recipe |= {f"n_{split}": count for split, count in images.counts.items()}
    features = f"features {base['precision']} at {base['input_size']} px"
    return (
        f"{data_of(recipe)} · weights {base['weights']['name']} · {features} · fitted on train, chosen on val"
    )


def atlas_text(atlas: Atlas, width: int = TEXT_WIDTH) -> str:
    """Return what an atlas says, for a terminal of so many columns; the command has a line of its own."""
    return "\n".join([*textwrap.wrap(atlas.words, width, break_on_hyphens=False), f"    {atlas.command}"])


def atlas_markdown(atlas: Atlas, folder: str = "") -> str:
    """Return an atlas as Markdown without a title; folder, with a slash, leads from there to the pictures."""
    depth, classes = f"{folder}{DEPTH_PICTURE}", f"{folder}{CLASS_PICTURE}"
    return "\n\n".join(
        [
            f"{atlas.words} `{atlas.command}`",
            f"![Test accuracy of each block alone and of joins against depth, and the cost up to there. "
            f"{atlas.caption}]({depth})",
            sets_markdown(atlas.table),
            f"{COLUMNS_EXPLAINED} {atlas.caption}.",
            RULE,
            narrowest_words(atlas.table),
            f"![Test accuracy of each class by layer set. {atlas.caption}]({classes})",
        ]
    )
