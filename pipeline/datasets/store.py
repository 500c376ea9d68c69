"""A prepared data set on disk: written once by `prepare`, read by everything else as an `ImageStore`."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.folders import words_of
from pipeline.datasets.lookup import stored_dataset
from pipeline.datasets.split import split_by_content, split_images, subset_images
from pipeline.datasets.table import SPLITS, RawImages
from pipeline.errors import BadInput, DamagedFile
from pipeline.extensions import resolve
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5
from pipeline.storage.publishing import Manifest, publish_manifest, published, read_manifest

logger = logging.getLogger(__name__)

FILE, UNREADABLE = "dataset.h5", "unreadable.csv"


def prepare(
    fingerprint: dict[str, Any],
    source: str | None,
    folder: str,
    refuse_unreadable: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the data set that fingerprint describes to folder; return the facts of its manifest.

    source is the path of the downloaded file or of a folder of pictures, None where the data come with a
    package. Raises DamagedFile when the source is not what its checksums say, and BadInput when a folder
    has changed since it was looked at, leaves a split empty, or has files that cannot be read and those
    are refused.
    """
    row, wanted = stored_dataset(fingerprint), fingerprint["split"]
    raw = resolve(row.reader)(source and Path(source), progress)
    if raw.identity not in (None, fingerprint["source"]):
        raise BadInput(f"{source}: its files have changed since it was looked at; run the command again")
    if raw.unreadable:
        words = f"{source}: {words_of(list(raw.unreadable))}"
        if refuse_unreadable:
            raise BadInput(
                f"{words}; mend or remove them, or let them be left out (HEADSTART_UNREADABLE=report)"
            )
        logger.warning("%s. All are listed in %s of the prepared data set", words, UNREADABLE)
    fractions = {name: wanted[name] for name in ("val_fraction", "test_fraction", "seed")}
    if raw.content is None:
        split = split_images(raw.labels, raw.is_test, **fractions)
    else:
        assert raw.given is not None  # it comes with the content
        split = split_by_content(raw.content, raw.given, **fractions)
        _check_parts(raw, split, source)
    rows = np.arange(len(raw.labels))
    if fingerprint["subset"]:
        rows = subset_images(raw.labels, split, count=fingerprint["subset"], seed=wanted["seed"])
    progress("write images", 0, len(rows), "images")
    with published(Path(folder) / FILE) as scratch, hdf5.created(scratch) as file:
        hdf5.write_array(file, "images", raw.images[rows])
        hdf5.write_array(file, "labels", raw.labels[rows])
        hdf5.write_array(file, "index", rows.astype(np.int64))
        hdf5.write_array(file, "split", split[rows])
        hdf5.write_texts(file, "names", [raw.names[row] for row in rows])
        if raw.content is not None:
            hdf5.write_array(file, "content", raw.content[rows])
    counts = {name: int((split[rows] == code).sum()) for name, code in SPLITS.items()}
    facts: dict[str, Any] = {"class_names": list(raw.class_names), "counts": counts}
    files = [FILE]
    if raw.unreadable:
        with published(Path(folder) / UNREADABLE) as scratch, scratch.open("w", encoding="utf-8") as table:
            csv.writer(table, lineterminator="\n").writerows([("file", "why"), *raw.unreadable])
        facts["unreadable"], files = len(raw.unreadable), [FILE, UNREADABLE]
    publish_manifest(Path(folder), fingerprint, files, facts)
    return facts


def _check_parts(raw: RawImages, split: np.ndarray, source: str | None) -> None:
    """Refuse a folder of so few pictures that chance has left a split or a class in train without any."""
    empty = [name for name, code in SPLITS.items() if not (split == code).any()]
    seen = np.unique(raw.labels[split == SPLITS["train"]])
    unseen = [name for number, name in enumerate(raw.class_names) if number not in seen]
    if empty or unseen:
        where = " and ".join(empty) if empty else f"train for {', '.join(unseen)}"
        raise BadInput(
            f"{source}: expected pictures in each of train, val and test, and of each class in train, found "
            f"none in {where} (of {len(split)} that can be read); add pictures, or put them into folders "
            "train, val and test yourself"
        )


def _checked_facts(manifest: Manifest) -> tuple[list[str], dict[str, int]]:
    """Return the names of the classes and the counts of the splits that a manifest tells of."""
    names, counts = manifest.facts.get("class_names"), manifest.facts.get("counts")
    if isinstance(names, list) and isinstance(counts, dict) and set(counts) == set(SPLITS):
        numbers = counts.values()
        if all(isinstance(name, str) for name in names) and all(isinstance(one, int) for one in numbers):
            return names, counts
    raise DamagedFile(
        f"{manifest.folder}: expected names of classes and counts of {', '.join(SPLITS)} in its "
        f"manifest, found {str(manifest.facts)[:200]}; delete it and run again"
    )


class ImageStore:
    """A prepared data set, checked against its manifest when opened; images are read when asked for.

    labels (N,) int64, index (N,) int64 (position in the source), split (N,) uint8, names N texts,
    class_names C texts, counts of each split, row the data set's row. content is (N, 32) uint8, the sha256
    of each image, where the data set is split by it, else None.
    """

    def __init__(self, folder: Path | str):
        manifest = read_manifest(Path(folder))
        self.path = manifest.verified(FILE)
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
            raise DamagedFile(f"{self.path}: its datasets differ in length")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of "train", "val" or "test" in this store, ascending."""
        return np.flatnonzero(self.split == SPLITS[split])

    def images(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images start … stop-1 as (n, 32, 32, 3) uint8; one contiguous read."""
        with hdf5.opened(self.path) as file:
            return file["images"][start:stop]
