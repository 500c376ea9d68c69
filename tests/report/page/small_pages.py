"""Pages of synthetic runs and a small data set with images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.datasets.images import ImageWriter
from pipeline.datasets.store import DATASET_FILE, IMAGES_FILE
from pipeline.report.page.content import PageSources
from pipeline.storage import hdf5
from pipeline.storage.publishing import publish_manifest, published

SCHEMES = {
    "head:linear": {"skill": 1.2, "total_seconds": 3.0},
    "head:knn": {"skill": 1.0, "total_seconds": 2.0, "stages": {}},
    "tuned-head:linear": {"skill": 1.3, "total_seconds": 20.0},
    "fine-tune:whole": {"skill": 2.5, "total_seconds": 900.0, "stages": {"top": 5, "blocks": 8}},
    "from-scratch:fast": {"skill": 2.4, "total_seconds": 400.0, "weights": "none", "stages": {"train": 40}},
}


def write_store(folder: Path, index: np.ndarray, labels: np.ndarray, class_names: list[str]) -> Path:
    """Write a prepared data set in which each image has its own color."""
    images = np.repeat(index.astype(np.uint8), 32 * 32 * 3).reshape(-1, 32, 32, 3)
    with published(folder / DATASET_FILE) as scratch, hdf5.created(scratch) as file:
        hdf5.write_array(file, "labels", labels.astype(np.int64))
        hdf5.write_array(file, "index", index.astype(np.int64))
        hdf5.write_array(file, "split", np.full(len(labels), 2, np.uint8))
        hdf5.write_texts(file, "names", [f"bild-é-{number}.png" for number in index])
    with ImageWriter(folder / IMAGES_FILE, 32) as writer:
        writer.add(images)
    facts = {"class_names": class_names, "counts": {"train": 0, "val": 0, "test": len(labels)}}
    fingerprint = {"name": "digits", "image_size": 32}
    publish_manifest(folder, fingerprint, [DATASET_FILE, IMAGES_FILE], facts)
    return folder


def sources_of(runs, **more) -> PageSources:
    """Return the inputs of a page of runs."""
    return PageSources(title="All schemes", runs=runs, **more)
