"""Recompute a sample of cached features from the images and say how far they are from what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline import numerics
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile, HeadstartError
from pipeline.features.passes import Pass
from pipeline.features.sections import Section, section_at
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5
from pipeline.storage.fingerprint import canonical
from pipeline.storage.publishing import Manifest

# The largest difference that rounding explains, as a share of the image's largest value in the layer. The
# same algorithm on the same machine gives 0. Measured on 128 images of CIFAR-10 with VGG16, five layers,
# trained and random weights, with other threads, other batch sizes, and without oneDNN: at most 2e-6 in
# float32 (one rounding is 1.2e-7) and 4e-2 in bfloat16 (one rounding is 4e-3); these are 10 and 2.5 times as
# much. Features of another image are further away: 0.3 for half of all pairs, 0.15 or more for 95 of 100.
TOLERANCES = {"float32": 2e-5, "bfloat16": 0.1}
FLOAT16_ROUNDING = 2**-10  # what two neighbouring numbers in storage float16 are apart, as a share of them


def tolerance(base: dict[str, Any]) -> float:
    """Return the largest relative difference that the precision and storage of a cache explain."""
    return TOLERANCES[base["precision"]] + (FLOAT16_ROUNDING if base["storage"] == "float16" else 0)


def compare_sections(
    sections: list[dict[str, Any]], sample: int, seed: int, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Recompute up to sample rows of each section and return, in the same order, what came out.

    A section is {"folder", "dataset", "weights"}, the folders of finished features and of what they were
    made from. The answer has rows, tolerance, layers {name: [largest absolute, largest relative
    difference]} and damaged {shard file: why}; or refused, in words, where rows cannot be recomputed. The
    relative difference is a share of the largest value that the image has in the layer. Which rows are
    drawn depends on seed and the section's key alone.
    """
    passes: dict[str, Pass] = {}
    found = []
    for done, one in enumerate(sections):
        progress("recompute rows", done, len(sections), "sections")
        try:
            found.append(_compare(**one, sample=sample, seed=seed, passes=passes))
        except HeadstartError as error:
            found.append({"refused": str(error)})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found.append({"refused": f"its manifest does not describe features ({error!r})"})
    return found


def _compare(
    folder: str, dataset: str, weights: str, *, sample: int, seed: int, passes: dict[str, Pass]
) -> dict[str, Any]:
    section, manifest = section_at(Path(folder))
    if section.base.get("convolutions") != BACKBONES[section.base["backbone"]].algorithms:
        return {"refused": "computed by another version of the algorithm, which is not here any more"}
    numerics.start(seed=0, precision=section.base["precision"], threads=1)
    store = ImageStore(dataset)
    count = manifest.facts["rows"]
    if count != len(store):
        raise DamagedFile(f"{section.folder}: expected {len(store)} rows, found {count}")
    generator = np.random.default_rng([seed, int(section.key, 16)])
    rows = np.sort(generator.choice(count, min(sample, count), replace=False))
    shared = {name: value for name, value in section.base.items() if name not in ("dataset", "storage")}
    size = store.fingerprint["image_size"]
    name = canonical([shared, section.layers, size])  # what a pass depends on
    if name not in passes:
        passes[name] = Pass(section, read_weights(Path(weights)), image_size=size)
    again = _recomputed(passes[name], store, rows, section)
    return _differences(section, manifest, store, rows, again)


def _recomputed(one_pass: Pass, store: ImageStore, rows: np.ndarray, section: Section) -> list[np.ndarray]:
    """Return the features of rows (n,) by layer, each (n, …) float32 as the storage would give them back."""
    parts = []
    for at in range(0, len(rows), one_pass.size):
        images = [store.images(row, row + 1) for row in rows[at : at + one_pass.size].tolist()]
        parts.append(one_pass(np.concatenate(images), section.view))
    stored = section.base["storage"]
    return [np.concatenate(layer).astype(stored).astype(np.float32) for layer in zip(*parts, strict=True)]


def _differences(
    section: Section, manifest: Manifest, store: ImageStore, rows: np.ndarray, again: list[np.ndarray]
) -> dict[str, Any]:
    """Compare recomputed features of rows with what each shard stores; see compare_sections."""
    limit, start, damaged = tolerance(section.base), 0, {}
    layers = {layer: [0.0, 0.0] for layer in section.layers}
    for name, count in zip(sorted(manifest.files), manifest.facts["rows_by_shard"], strict=True):
        chosen = np.flatnonzero((rows >= start) & (rows < start + count))
        wanted = dict(zip(section.layers, (layer[chosen] for layer in again), strict=True))
        try:
            found = _in_shard(manifest.folder / name, rows[chosen], start, store, wanted)
        except DamagedFile as error:
            damaged[name] = str(error)
            found = {}
        for layer, (absolute, relative) in found.items():
            layers[layer] = [max(absolute, layers[layer][0]), max(relative, layers[layer][1])]
            if relative > limit:
                damaged[name] = (
                    f"{layer} differs by {relative:.1e} of its largest value from what the images give, "
                    f"more than the {limit:.1e} that rounding explains"
                )
        start += count
    return {"rows": len(rows), "tolerance": limit, "layers": layers, "damaged": damaged}


def _in_shard(
    path: Path, rows: np.ndarray, start: int, store: ImageStore, wanted: dict[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Return the largest absolute and relative difference by layer; raise DamagedFile for a damaged shard."""
    inside, found = rows - start, {}
    with hdf5.opened(path) as file:
        try:
            for name in ("index", "labels", "split"):
                if not (file[name][:][inside] == getattr(store, name)[rows]).all():
                    raise DamagedFile(f"{path}: {name} is not that of the images")
            for layer, values in wanted.items():
                found[layer] = _largest(file["features"][layer][:][inside], values)
        except (ValueError, TypeError, IndexError) as error:
            raise DamagedFile(f"{path}: not laid out as features are ({error})") from error
    return found


def _largest(stored: np.ndarray, again: np.ndarray) -> tuple[float, float]:
    """Return the largest difference of (n, …) arrays, and the largest as a share of its row's largest."""
    if stored.shape != again.shape:
        raise ValueError(f"expected rows of shape {again.shape[1:]}, found {stored.shape[1:]}")
    if not len(stored):
        return 0.0, 0.0
    apart = np.abs(stored.astype(np.float64) - again).reshape(len(again), -1).max(axis=1)
    apart = np.nan_to_num(apart, nan=np.inf)  # what is no number is infinitely far away
    scale = np.abs(again).reshape(len(again), -1).max(axis=1)
    return float(apart.max()), float((apart / np.maximum(scale, np.finfo(np.float32).tiny)).max())
