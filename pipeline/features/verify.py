"""Recompute a sample of cached features from the images and measure how far the stored ones differ."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.engines import ENGINES
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile, HeadstartError
from pipeline.features.passes import Pass
from pipeline.features.sections import Section, engine_of, section_at
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5
from pipeline.storage.fingerprint import canonical
from pipeline.storage.publishing import Manifest

# The largest difference that rounding can cause, relative to the image's largest value in the layer. The
# same algorithm on the same machine gives 0. Measured on 128 CIFAR-10 images with VGG16, five layers, trained
# and random weights, other thread counts and batch sizes, and without oneDNN: at most 2e-6 in float32 (one
# rounding is 1.2e-7) and 4e-2 in bfloat16 (one rounding is 4e-3). The tolerances are 10 and 2.5 times that.
# Features of different images differ more: by 0.3 for half of all pairs, by 0.15 or more for 95 of 100.
TOLERANCES = {"float32": 2e-5, "bfloat16": 0.1}
FLOAT16_ROUNDING = 2**-10  # relative distance between neighboring float16 numbers


def tolerance(base: dict[str, Any]) -> float:
    """Return the largest relative difference that the precision and storage type of a cache can cause."""
    return TOLERANCES[base["precision"]] + (FLOAT16_ROUNDING if base["storage"] == "float16" else 0)


def compare_sections(
    sections: list[dict[str, Any]], sample: int, seed: int, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Recompute up to sample rows of each section; return one comparison per section, in the same order.

    A section is {"folder", "dataset", "weights"}: the folders of its features and of their sources. A
    comparison has rows, tolerance, layers {name: [largest absolute, largest relative difference]} and
    damaged {shard file: why}; or just refused, the reason why rows cannot be recomputed. Differences are
    relative to the image's largest value in the layer. The sample depends only on seed and the section's key.
    """
    passes: dict[str, Pass] = {}
    comparisons = []
    for done, section in enumerate(sections):
        progress("recompute rows", done, len(sections), "sections")
        try:
            comparisons.append(_compare(**section, sample=sample, seed=seed, passes=passes))
        except HeadstartError as error:
            comparisons.append({"refused": str(error)})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            comparisons.append({"refused": f"its manifest does not describe features ({error!r})"})
    return comparisons


def _compare(
    folder: str, dataset: str, weights: str, *, sample: int, seed: int, passes: dict[str, Pass]
) -> dict[str, Any]:
    section, manifest = section_at(Path(folder))
    engine = ENGINES[engine_of(section.base)]
    if section.base.get("convolutions") != engine.describe_algorithms(BACKBONES[section.base["backbone"]]):
        return {"refused": "computed by another version of the algorithm, which no longer exists"}
    store = ImageStore(dataset)
    count = manifest.facts["rows"]
    if count != len(store):
        raise DamagedFile(f"{section.folder}: expected {len(store)} rows, found {count}")
    generator = np.random.default_rng([seed, int(section.key, 16)])
    rows = np.sort(generator.choice(count, min(sample, count), replace=False))
    shared = {name: value for name, value in section.base.items() if name not in ("dataset", "storage")}
    size = store.image_size
    name = canonical([shared, section.dtype, section.layers, size])  # sections that agree in it share a pass
    if name not in passes:
        passes[name] = Pass(section, read_weights(Path(weights)), image_size=size)
    stored = section.base["storage"]
    computed = passes[name].features_of(store.images, section.view, rows)
    recomputed = [layer.astype(stored).astype(np.float32) for layer in computed]  # rounded like those
    return _differences(section, manifest, store, rows, recomputed)


def _differences(
    section: Section, manifest: Manifest, store: ImageStore, rows: np.ndarray, recomputed: list[np.ndarray]
) -> dict[str, Any]:
    """Compare recomputed features of rows with those in each shard; see compare_sections."""
    limit, start, damaged = tolerance(section.base), 0, {}
    layers = {layer: [0.0, 0.0] for layer in section.layers}
    for name, count in zip(sorted(manifest.files), manifest.facts["rows_by_shard"], strict=True):
        inside = np.flatnonzero((rows >= start) & (rows < start + count))
        expected = dict(zip(section.layers, (layer[inside] for layer in recomputed), strict=True))
        try:
            differences = _shard_differences(manifest.folder / name, rows[inside], start, store, expected)
        except DamagedFile as error:
            damaged[name] = str(error)
            differences = {}
        for layer, (absolute, relative) in differences.items():
            layers[layer] = [max(absolute, layers[layer][0]), max(relative, layers[layer][1])]
            if relative > limit:
                damaged[name] = (
                    f"{layer} differs by {relative:.1e} of its largest value from the recomputed features, "
                    f"more than rounding can cause ({limit:.1e})"
                )
        start += count
    return {"rows": len(rows), "tolerance": limit, "layers": layers, "damaged": damaged}


def _shard_differences(
    path: Path, rows: np.ndarray, start: int, store: ImageStore, expected: dict[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Return the largest (absolute, relative) difference by layer; raise DamagedFile for a damaged shard."""
    try:
        with hdf5.opened(path) as file:
            for name in ("index", "labels", "split"):
                if not (file[name][:][rows - start] == getattr(store, name)[rows]).all():
                    raise DamagedFile(f"{path}: {name} does not match the images")
            features = {layer: file["features"][layer][:][rows - start] for layer in expected}
        return {layer: _largest_difference(features[layer], values) for layer, values in expected.items()}
    except (ValueError, TypeError, IndexError) as error:
        raise DamagedFile(f"{path}: not a shard of features ({error})") from error


def _largest_difference(stored: np.ndarray, recomputed: np.ndarray) -> tuple[float, float]:
    """Return the largest difference of (n, …) arrays: absolute, and relative to the row's largest value."""
    if stored.shape != recomputed.shape:
        raise ValueError(f"expected rows of shape {recomputed.shape[1:]}, found {stored.shape[1:]}")
    if not len(stored):
        return 0.0, 0.0
    gaps = np.abs(stored.astype(np.float64) - recomputed).reshape(len(recomputed), -1).max(axis=1)
    gaps = np.nan_to_num(gaps, nan=np.inf)  # NaN counts as infinitely different
    scale = np.abs(recomputed).reshape(len(recomputed), -1).max(axis=1)
    return float(gaps.max()), float((gaps / np.maximum(scale, np.finfo(np.float32).tiny)).max())
