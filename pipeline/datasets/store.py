"""A prepared data set on disk: `prepare` writes it once, `ImageStore` reads it."""

import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.datasets.folders import list_first
from pipeline.datasets.images import ImageWriter, map_images
from pipeline.datasets.lookup import stored_dataset
from pipeline.datasets.split import rows_of, split_by_content, split_images, subset_images
from pipeline.datasets.table import SPLIT_NAMES, SPLITS, TRAIN, VAL, Records
from pipeline.errors import BadInput, DamagedFile
from pipeline.extensions import resolve
from pipeline.formatting import pluralize
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5, publishing
from pipeline.storage.layout import IMAGES_FILE
from pipeline.storage.publishing import Manifest, published

logger = logging.getLogger(__name__)

DATASET_FILE, UNREADABLE, DUPLICATES = "dataset.h5", "unreadable.csv", "duplicates.csv"
FEW_VAL, FEW_TRAIN = 50, 10  # pictures; with fewer in val or of a class in train, results are uncertain
IMBALANCE = 0.1  # of the most frequent class's pictures; with fewer of the rarest, it is reported


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
    row, target, side = stored_dataset(fingerprint), Path(folder), fingerprint["image_size"]
    publishing.check_free_space(target, row.size * 3 * side**2, "the images")
    with published(target / IMAGES_FILE) as scratch, ImageWriter(scratch, side) as writer:
        reader = functools.partial(resolve(row.reader), source and Path(source), writer, progress)
        records = reader(layout=fingerprint["layout"]) if "layout" in fingerprint else reader()
        _check_source(records, fingerprint, source, refuse_unreadable)
        split = _split(records, fingerprint["split"], source)
        rows = np.arange(len(records.labels))
        if count := fingerprint["subset"]:
            rows = subset_images(records.labels, split, count=count, seed=fingerprint["split"]["seed"])
            writer.keep(rows)
    with published(target / DATASET_FILE) as scratch, hdf5.created(scratch) as file:
        hdf5.write_array(file, "labels", records.labels[rows])
        hdf5.write_array(file, "index", rows.astype(np.int64))
        hdf5.write_array(file, "split", split[rows])
        hdf5.write_texts(file, "names", [records.names[row] for row in rows])
        for name, values in (("content", records.content), ("weights", records.weights)):
            if values is not None:
                hdf5.write_array(file, name, values[rows])
    counts = {name: int((split[rows] == code).sum()) for name, code in SPLITS.items()}
    facts: dict[str, Any] = {"class_names": list(records.class_names), "counts": counts}
    files = [DATASET_FILE, IMAGES_FILE]
    notes = [f"{pluralize(len(records.unreadable), 'file')} left out"] if records.unreadable else []
    tables = {UNREADABLE: pd.DataFrame(records.unreadable, columns=["file", "why"])}
    if records.content is not None:
        notes += _report_few(records, records.labels[rows], split[rows])
        tables[DUPLICATES], found = _report_duplicates(records, records.content, rows, split, source)
        notes += found
    for name, table in tables.items():
        if len(table):
            publishing.publish_csv(target / name, table)
            files.append(name)
    facts |= {"note": ", ".join(notes)} if notes else {}
    publishing.publish_manifest(target, fingerprint, files, facts)
    return facts


def _check_source(
    records: Records, fingerprint: dict[str, Any], source: str | None, refuse_unreadable: bool
) -> None:
    """Raise BadInput if files changed since the scan, or are unreadable and must not be; report them."""
    if records.identity not in (None, fingerprint["source"]):
        raise BadInput(f"{source}: files have changed since the folder was scanned; run the command again")
    if records.unreadable:
        listed = list_first([f"{name} ({why})" for name, why in records.unreadable])
        message = f"{source}: {pluralize(len(records.unreadable), 'file')} left out: {listed}"
        if refuse_unreadable:
            raise BadInput(
                f"{message}; repair or remove them, or set HEADSTART_UNREADABLE=report to leave them out"
            )
        logger.warning("%s. The full list is in %s of the prepared data set", message, UNREADABLE)


def _split(records: Records, settings: dict[str, Any], source: str | None) -> np.ndarray:
    """Return the split (N,) uint8 of all images; name the pictures that a class has lent to val or test."""
    fractions = {name: settings[name] for name in ("val_fraction", "test_fraction", "seed")}
    if records.source_split is None:
        return split_images(records.labels, records.is_test, **fractions)
    if records.split_keys is None:
        return records.source_split
    split, lent = split_by_content(records.split_keys, records.labels, records.source_split, **fractions)
    _check_splits(records, split, source)
    if loans := [f"{records.names[row]} to {SPLIT_NAMES[split[row]]}" for row in np.flatnonzero(lent)]:
        why = "classes without a picture in val or test lend one that would be in train"
        logger.warning("%s: %s: %s", source, why, list_first(loans))
    return split


def _report_few(records: Records, labels: np.ndarray, split: np.ndarray) -> list[str]:
    """Warn if val, or a class in train, has so few pictures that results are uncertain; return notes."""
    n_val, in_train = int((split == VAL).sum()), labels[split == TRAIN]
    counts = np.bincount(in_train, minlength=len(records.class_names))
    if n_val < FEW_VAL:
        advice = f"add pictures, or sort at least {FEW_VAL} into a folder named val"
        logger.warning(
            "val has %s: choices made on it are uncertain; %s", pluralize(n_val, "picture"), advice
        )
    if few := [name for name, count in zip(records.class_names, counts, strict=True) if count < FEW_TRAIN]:
        advice = "add pictures of these classes, or merge or remove them"
        logger.warning("fewer than %d pictures for training: %s; %s", FEW_TRAIN, list_first(few), advice)
    (least, rarest), *_, (most, commonest) = sorted(zip(counts.tolist(), records.class_names, strict=True))
    if least >= IMBALANCE * most:
        return []
    note = f"{pluralize(least, 'training picture')} of {rarest} and {most:,} of {commonest}"
    logger.warning("%s: --class-weights balanced gives all classes the same weight in the loss", note)
    return [f"{note} (see --class-weights)"]


def _report_duplicates(
    records: Records, content: np.ndarray, rows: np.ndarray, split: np.ndarray, source: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Warn of the same picture in several classes or splits; return a table of such files, and notes.

    content (N, 32) and split (N,) are of all pictures, of which rows (n,) are compared. In the table, picture
    is the sha256 of the decoded pixels.
    """
    classes = [records.class_names[label] for label in records.labels[rows]]
    digests = [digest.tobytes().hex() for digest in content[rows]]
    columns = {"picture": digests, "file": [records.names[row] for row in rows]}
    table = pd.DataFrame({**columns, "class": classes, "split": [SPLIT_NAMES[code] for code in split[rows]]})
    several, notes = table.groupby("picture")[["class", "split"]].transform("nunique") > 1, []
    for column, kind in (("class", "classes"), ("split", "splits")):
        copies = table[several[column]].groupby("picture", sort=False)["file"].agg(" = ".join)
        if len(copies):
            notes.append(f"{pluralize(len(copies), 'picture')} in several {kind}")
            message = "%s: %s: %s; remove copies. The full list is in %s of the prepared data set"
            logger.warning(message, source, notes[-1], list_first([*copies]), DUPLICATES)
    return table[several.any(axis=1)].sort_values("picture", kind="stable"), notes


def _check_splits(records: Records, split: np.ndarray, source: str | None) -> None:
    """Raise BadInput if a split is empty or train lacks a class, as happens with very few pictures."""
    empty = [name for name, code in SPLITS.items() if not (split == code).any()]
    labels = np.unique(records.labels[split == TRAIN])
    missing = [name for label, name in enumerate(records.class_names) if label not in labels]
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
    """A prepared data set; its columns are checked against the manifest when opened.

    labels (N,) int64, index (N,) int64 (position in the source), split (N,) uint8, names (N strings),
    class_names (C strings), counts of images by split, row (the data set's row). content (N, 32) uint8 is the
    sha256 of each picture's decoded pixels if the split depends on it, else None. weights (N,) float32 are
    those of a table, None if all are 1. With images_checked, only the size of the images' file is compared.
    """

    def __init__(self, folder: Path | str, *, images_checked: bool = False):
        manifest = publishing.read_manifest(Path(folder))
        self._manifest, self._images_checked = manifest, images_checked
        self.path = manifest.verified(DATASET_FILE)
        self.fingerprint = manifest.fingerprint
        self.row = stored_dataset(manifest.fingerprint, manifest.facts)
        self.class_names, self.counts = _checked_facts(manifest)
        with hdf5.opened(self.path) as file:
            self.labels, self.index, self.split = (
                hdf5.read_array(file, name, kinds="iu") for name in ("labels", "index", "split")
            )
            self.names: list[str] = hdf5.read_texts(file, "names")
            self.content, self.weights = (
                hdf5.read_array(file, name, kinds=kinds) if name in file else None
                for name, kinds in (("content", "u"), ("weights", "f"))
            )
        self.image_size: int = manifest.fingerprint.get("image_size", 0)
        if len({len(column) for column in (self.labels, self.index, self.split, self.names)}) > 1:
            raise DamagedFile(f"{self.path}: columns differ in length")

    @functools.cached_property
    def images(self) -> np.memmap:
        """The images (N, S, S, 3) uint8, S = image_size, mapped from their file, which is first checked."""
        images = map_images(self._manifest.verified(IMAGES_FILE, read=not self._images_checked))
        if images.shape[:2] != (len(self), self.image_size):
            raise DamagedFile(f"{self.path}: columns and images {images.shape} differ in length or size")
        return images

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Return what the data set holds, in one line."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        size, classes = f"{self.image_size} px", len(self.class_names)
        return f"ImageStore({self.row.name}: {len(self):,} images of {size} ({counts}), {classes} classes)"

    def rows(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of "train", "val" or "test", ascending; raise BadInput."""
        return rows_of(self.split, split)
