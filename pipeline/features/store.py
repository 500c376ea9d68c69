"""The cached features of a data set, as NumPy arrays: the interface that heads are trained through."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.table import BACKBONES
from pipeline.datasets.table import SPLITS
from pipeline.errors import BadInput, DamagedFile
from pipeline.features.sections import Section, finished_sections, known_sections
from pipeline.storage import hdf5
from pipeline.storage.layout import COSTS, MAPPED
from pipeline.storage.publishing import describe_file, publish_sealed, published, read_manifest, read_sealed
from pipeline.views import IDENTITY


class FeatureStore:
    """A feature cache; every shard is checked by sha256 before its rows are used.

    layers and views are those that the cache holds, in network order and by name; labels (N,) int64,
    index (N,) int64 (position in the source), split (N,) uint8, names N texts. Raises DamagedFile when
    nothing is cached, rows are missing, or a shard is not what its manifest says.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._sections = finished_sections(self.folder)
        if not self._sections:
            damage = [section.why_missing() for section in known_sections(self.folder)]
            raise DamagedFile(damage[0] if damage else f"{folder}: no finished features; extract them first")
        self.base: dict[str, Any] = self._sections[0].base
        for section in self._sections:
            _check_section(section)
        cached = {layer for section in self._sections for layer in section.layers}
        self.layers = [tap for tap in BACKBONES[self.base["backbone"]].taps if tap in cached]
        views = {section.view for section in self._sections}
        self.views = sorted(views, key=lambda view: (view != IDENTITY, view))
        self._manifests = {section: read_manifest(section.folder) for section in self._sections}
        self._shards = functools.cache(self._verified_shards)
        first = self._sections[0]
        columns = [_read_columns(path) for path in self._shards(first)]
        labels, index, split, names = zip(*columns, strict=True)
        self.labels, self.index, self.split = map(np.concatenate, (labels, index, split))
        self.names: list[str] = list(itertools.chain.from_iterable(names))
        rows = self._manifests[first].facts.get("rows")
        if len(self.labels) != rows:
            raise DamagedFile(
                f"{first.folder}: expected {rows} rows, found {len(self.labels)}; delete it and run again"
            )

    @property
    def bytes(self) -> int:
        """The size of all shards together, in bytes."""
        return sum(manifest.bytes for manifest in self._manifests.values())

    def rows(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of "train", "val" or "test", ascending."""
        return np.flatnonzero(self.split == SPLITS[split])

    def width(self, layer: str, view: str = IDENTITY) -> int:
        """Return how many numbers a layer has for one image."""
        return math.prod(self._section(layer, view).shapes()[layer])

    def load(
        self,
        layers: list[str] | tuple[str, ...],
        view: str = IDENTITY,
        *,
        mapped: bool = False,
        as_stored: bool = False,
    ) -> np.ndarray:
        """Return the features of all images under a view, layers joined in the order given: (N, D) float32.

        Maps (pooling "none") of a single layer keep their shape (N, height, width, channels). With as_stored
        the type is that of the cache, which may be float16. With mapped the array is read-only and stays on
        the disk until its rows are used; its file is made at the first call and kept beside the shards.
        Raises BadInput for layers or views that are not cached.
        """
        sections = {layer: self._section(layer, view) for layer in layers}
        if not layers:
            raise BadInput(f"layers {list(layers)}: expected some of the cached {self.layers}")
        if len(layers) > 1 and self.base["pooling"] == "none":
            raise BadInput(f"layers {list(layers)}: expected one layer: maps (pooling none) are not joined")
        if mapped:
            return self._mapped(tuple(layers), view, sections)
        dtype = np.dtype(self.base["storage"] if as_stored else "float32")
        found = [self._read_layer(layer, sections[layer], dtype) for layer in layers]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=-1)

    def costs(
        self, layers: list[str] | tuple[str, ...] = (), views: tuple[str, ...] = (IDENTITY,)
    ) -> dict[str, Any]:
        """Return what extraction of layers (all unless told) cost: seconds, peak_memory_mb, bytes."""
        wanted = {self._section(layer, view) for layer in layers or self.layers for view in views}
        found = [_read_costs(section.folder / COSTS) for section in wanted]
        return {
            "seconds": round(sum(cost["seconds"] for cost in found), 3),
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in found),
            "bytes": sum(cost["bytes"] for cost in found),
        }

    def _section(self, layer: str, view: str) -> Section:
        for section in self._sections:
            if section.view == view and layer in section.layers:
                return section
        for section in known_sections(self.folder):
            if section.view == view and layer in section.layers:
                raise DamagedFile(f"{section.why_missing()}; run the extraction again")
        if layer not in self.layers:
            raise BadInput(f"layer {layer!r}: expected some of the cached {self.layers}")
        if view not in self.views:
            raise BadInput(f"view {view!r}: expected one of the cached {self.views}")
        raise BadInput(f"layer {layer!r} is not cached for view {view!r}; extract it for this view")

    def _verified_shards(self, section: Section) -> list[Path]:
        manifest = self._manifests[section]
        return [manifest.verified(name) for name in sorted(manifest.files)]

    def _read_layer(self, layer: str, section: Section, dtype: np.dtype) -> np.ndarray:
        parts = []
        for path in self._shards(section):
            with hdf5.opened(path) as file:
                parts.append(hdf5.read_array(file, f"features/{layer}", kinds="f").astype(dtype, copy=False))
            if (found := parts[-1].shape[1:]) != (shape := section.shapes()[layer]):
                raise DamagedFile(f"{path}: expected {layer} of shape {shape} for an image, found {found}")
        features: np.ndarray = np.concatenate(parts)
        if len(features) != len(self.labels):
            raise DamagedFile(
                f"{section.folder}: expected {len(self.labels)} rows of features, found {len(features)}; "
                "delete it and run again"
            )
        return features

    def _mapped(self, layers: tuple[str, ...], view: str, sections: dict[str, Section]) -> np.ndarray:
        content = [(layer, sections[layer].key, self._manifests[sections[layer]].files) for layer in layers]
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / MAPPED / f"{view}-{name}.npy"
        note, whole = path.with_suffix(".json"), False
        with contextlib.suppress(DamagedFile):
            whole = path.is_file() and read_sealed(note) == describe_file(path)
        if not whole:
            with published(path) as scratch:
                np.save(scratch, self.load(layers, view))
                entry = describe_file(scratch)
            publish_sealed(note, entry)
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_columns(path: Path) -> tuple[Any, ...]:
    with hdf5.opened(path) as file:
        columns = [hdf5.read_array(file, name, kinds="iu") for name in ("labels", "index", "split")]
        names = hdf5.read_texts(file, "names")
    if any(column.shape != (len(names),) for column in columns):
        raise DamagedFile(f"{path}: its columns differ in length; delete it and run again")
    return (*columns, names)


def _read_costs(path: Path) -> dict[str, float]:
    found = read_sealed(path, "record of costs")
    if not all(isinstance(found.get(name), int | float) for name in ("seconds", "peak_memory_mb", "bytes")):
        raise DamagedFile(f"{path}: not a record of costs of this project; delete the folder and run again")
    return found


def _check_section(section: Section) -> None:
    """Raise DamagedFile where the fingerprint of a section describes no features that are known."""
    try:
        sound = section.row_bytes > 0
    except (KeyError, TypeError, ArithmeticError) as error:
        raise DamagedFile(
            f"{section.folder}: its manifest describes no known features ({error!r})"
        ) from error
    if not sound:
        raise DamagedFile(f"{section.folder}: its manifest describes features of no size")
