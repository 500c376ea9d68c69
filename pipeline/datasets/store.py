"""A prepared data set on disk: `prepare` writes it once, `ImageStore` reads it."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.folders import describe_unreadable
from pipeline.datasets.lookup import stored_dataset
from pipeline.datasets.split import split_by_content, split_images, subset_images
from pipeline.datasets.table import SPLITS, RawImages
from pipeline.errors import BadInput, DamagedFile
from pipeline.extensions import resolve
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5
from pipeline.storage.publishing import Manifest, publish_manifest, published, read_manifest

logger = logging.getLogger(__name__)

DATASET_FILE, UNREADABLE = "dataset.h5", "unreadable.csv"


def prepare(
    fingerprint: dict[str, Any],
    source: str | None,
    folder: str,
    refuse_unreadable: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the data set that fingerprint describes to folder; return the facts of its manifest.

    source is the path of the downloaded file or of the folder of pictures, or None if the data come with a
    package. Raises DamagedFile if the source does not match its checksums, and BadInput if the folder has
    changed since its fingerprint was computed, if a split would be empty, or if files are unreadable and
    refuse_unreadable is set.
    """
    row, split_settings = stored_dataset(fingerprint), fingerprint["split"]
    raw = resolve(row.reader)(source and Path(source), progress)
    if raw.identity not in (None, fingerprint["source"]):
        raise BadInput(f"{source}: files have changed since the folder was scanned; run the command again")
    if raw.unreadable:
        message = f"{source}: {describe_unreadable(list(raw.unreadable))}"
        if refuse_unreadable:
            raise BadInput(
                f"{message}; repair or remove them, or set HEADSTART_UNREADABLE=report to leave them out"
            )
        logger.warning("%s. The full list is in %s of the prepared data set", message, UNREADABLE)
    fractions = {name: split_settings[name] for name in ("val_fraction", "test_fraction", "seed")}
    if raw.source_split is None:
        split = split_images(raw.labels, raw.is_test, **fractions)
    elif raw.content is None:
        split = raw.source_split
    else:
        split = split_by_content(raw.content, raw.source_split, **fractions)
        _check_splits(raw, split, source)
    rows = np.arange(len(raw.labels))
    if fingerprint["subset"]:
        rows = subset_images(raw.labels, split, count=fingerprint["subset"], seed=split_settings["seed"])
    progress("write images", 0, len(rows), "images")
    with published(Path(folder) / DATASET_FILE) as scratch, hdf5.created(scratch) as file:
        hdf5.write_array(file, "images", raw.images[rows])
        hdf5.write_array(file, "labels", raw.labels[rows])
        hdf5.write_array(file, "index", rows.astype(np.int64))
        hdf5.write_array(file, "split", split[rows])
        hdf5.write_texts(file, "names", [raw.names[row] for row in rows])
        if raw.content is not None:
            hdf5.write_array(file, "content", raw.content[rows])
    counts = {name: int((split[rows] == code).sum()) for name, code in SPLITS.items()}
    facts: dict[str, Any] = {"class_names": list(raw.class_names), "counts": counts}
    files = [DATASET_FILE]
    if raw.unreadable:
        with published(Path(folder) / UNREADABLE) as scratch, scratch.open("w", encoding="utf-8") as table:
            csv.writer(table, lineterminator="\n").writerows([("file", "why"), *raw.unreadable])
        facts["unreadable"], files = len(raw.unreadable), [DATASET_FILE, UNREADABLE]
    publish_manifest(Path(folder), fingerprint, files, facts)
    return facts


def _check_splits(raw: RawImages, split: np.ndarray, source: str | None) -> None:
    """Raise BadInput if a split is empty or train lacks a class, as happens with very few pictures."""
    empty = [name for name, code in SPLITS.items() if not (split == code).any()]
    labels = np.unique(raw.labels[split == SPLITS["train"]])
    missing = [name for label, name in enumerate(raw.class_names) if label not in labels]
    if empty or missing:
        where = " and ".join(empty) if empty else f"train for {', '.join(missing)}"
        raise BadInput(
            f"{source}: expected pictures in each of train, val and test, and of each class in train, found "
            f"none in {where} ({len(split)} readable pictures in total); add pictures, or sort them into "
            "folders named train, val and test"
        )


def _checked_facts(manifest: Manifest) -> tuple[list[str], dict[str, int]]:
    """Return the class names and the image counts by split that a manifest contains."""
    names, counts = manifest.facts.get("class_names"), manifest.facts.get("counts")
    if isinstance(names, list) and isinstance(counts, dict) and set(counts) == set(SPLITS):
        are_strings = all(isinstance(name, str) for name in names)
        if are_strings and all(isinstance(count, int) for count in counts.values()):
            return names, counts
    raise DamagedFile(
        f"{manifest.folder}: expected class names and counts of {', '.join(SPLITS)} in its manifest, "
        f"found {str(manifest.facts)[:200]}; delete the folder and run again"
    )


class ImageStore:
    """A prepared data set, checked against its manifest when opened; images are read on demand.

    labels (N,) int64, index (N,) int64 (position in the source), split (N,) uint8, names (N strings),
    class_names (C strings), counts of images by split, row (the data set's row). content (N, 32) uint8 is
    the sha256 of each image if the split depends on it, else None.
    """

    def __init__(self, folder: Path | str):
        manifest = read_manifest(Path(folder))
        self.path = manifest.verified(DATASET_FILE)
        self.fingerprint = manifest.fingerprint
        self.row = stored_dataset(manifest.fingerprint, manifest.facts)
        self.class_names, self.counts = _checked_facts(manifest)
        with hdf5.opened(self.path) as file:
            self.labels, self.index, self.split = (
                hdf5.read_array(file, name, kinds="iu") for name in ("labels", "index", "split")
            )
            self.names: list[str] = hdf5.read_texts(file, "names")
            self.content: np.ndarray | None = (
                hdf5.read_array(file, "content", kinds="u") if "content" in file else None
            )
            shape = hdf5.find_dataset(file, "images", kinds="u").shape
        if not len(self.labels) == len(self.index) == len(self.split) == len(self.names) == shape[0]:
            raise DamagedFile(f"{self.path}: its HDF5 datasets differ in length")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of "train", "val" or "test" in this store, ascending."""
        return np.flatnonzero(self.split == SPLITS[split])

    def images(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images start … stop-1 as (n, 32, 32, 3) uint8, in one contiguous read."""
        with hdf5.opened(self.path) as file:
            return file["images"][start:stop]
