"""Read the cached features of a data set as NumPy arrays; heads are trained on them."""

import functools
import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.table import BACKBONES
from pipeline.datasets.split import rows_of
from pipeline.errors import BadInput, DamagedFile
from pipeline.features.sections import Section, finished_sections, published_sections
from pipeline.machine import allow_open_files
from pipeline.storage import hdf5
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import read_manifest, read_sealed
from pipeline.views import IDENTITY


class FeatureStore:
    """A feature cache, opened for reading; the sha256 of every shard is verified before its rows are used.

    layers are the cached layers in network order, views the cached views by name, identity first. labels
    (N,) int64, index (N,) int64 (position in the source), split (N,) uint8, names (N strings). Raises
    DamagedFile if nothing is cached, rows are missing, or a shard does not match its manifest.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._sections = finished_sections(self.folder)
        if not self._sections:
            why = [section.why_missing() for section in published_sections(self.folder)]
            raise DamagedFile(why[0] if why else f"{folder}: no finished features; extract them first")
        self.base: dict[str, Any] = self._sections[0].base
        for section in self._sections:
            _check_section(section)
        cached = {layer for section in self._sections for layer in section.layers}
        self.layers = [one for one in BACKBONES[self.base["backbone"]].layers if one in cached]
        views = {section.view for section in self._sections}
        self.views = sorted(views, key=lambda view: (view != IDENTITY, view))
        self._manifests = {section: read_manifest(section.folder) for section in self._sections}
        self._shards = functools.cache(self._verified_shards)
        first = self._sections[0]
        columns = [_read_columns(path) for path in self._shards(first)]
        labels, index, split, names = zip(*columns, strict=True)
        self.labels, self.index, self.split = map(np.concatenate, (labels, index, split))
        self.names: list[str] = list(itertools.chain.from_iterable(names))
        _check_rows(first, len(self.labels), self._manifests[first].facts.get("rows"))

    def rows(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of "train", "val" or "test", ascending; raise BadInput."""
        return rows_of(self.split, split)

    def blocks(self, layers: Sequence[str], view: str = IDENTITY, size: int = 4096) -> Iterator[np.ndarray]:
        """Yield the features that load returns, in blocks (n, D) of size rows; a shard is read at a time."""
        streams = [self._rows(layer, self._section(layer, view)) for layer in layers]
        rows = (np.concatenate(parts, axis=-1) for parts in zip(*streams, strict=True))
        while block := list(itertools.islice(rows, size)):
            yield np.stack(block)

    def _rows(self, layer: str, section: Section) -> Iterator[np.ndarray]:
        for path in self._shards(section):
            yield from _read_shard(path, layer, section)

    def __repr__(self) -> str:
        """Return what the cache holds, in one line."""
        base = self.base
        what = (
            f"{base['backbone']}{'' if base['pooling'] == 'average' else ' maps'} at {base['input_size']} px"
        )
        columns = f"layers {', '.join(self.layers)}, views {', '.join(self.views)}"
        return f"FeatureStore({base['dataset']['name']}: {len(self.labels):,} images, {what}, {columns})"

    def width(self, layer: str, view: str = IDENTITY) -> int:
        """Return the number of values of a layer for one image."""
        return math.prod(self._section(layer, view).shapes()[layer])

    def load(self, layers: Sequence[str] | str, view: str = IDENTITY) -> np.ndarray:
        """Return the features (N, D) float32 of all images under a view, layers concatenated in this order.

        Feature maps (pooling "none") of a single layer keep their shape (N, height, width, channels);
        map_layer reads those that exceed memory. Raises BadInput for layers or views that are not cached.
        """
        layers = [layers] if isinstance(layers, str) else layers
        sections = {layer: self._section(layer, view) for layer in layers}
        if not layers:
            raise BadInput(f"layers []: expected some of the cached {self.layers}")
        if len(layers) > 1 and self.base["pooling"] == "none":
            raise BadInput(f"layers {list(layers)}: expected one; feature maps cannot be concatenated")
        arrays = []
        for layer in layers:
            shards = self._shards(section := sections[layer])
            arrays.append(np.concatenate([_read_shard(path, layer, section) for path in shards]))
            _check_rows(section, len(arrays[-1]), len(self.labels))
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)

    def map_layer(self, layer: str, views: Sequence[str] = (IDENTITY,)) -> "MappedRows":
        """Return the feature maps (V * N, height, width, channels) of a layer, a block of N rows per view.

        They stay on disk in the cache's own type; index them with row numbers. Raises BadInput for a layer
        or view that is not cached, and for averaged features, which load reads.
        """
        if self.base["pooling"] != "none":
            raise BadInput(
                f"map_layer: expected a cache of feature maps, received pooling {self.base['pooling']}"
            )
        parts = []
        for view in views:
            section = self._section(layer, view)
            maps = [(path, hdf5.map_array(path, f"features/{layer}")) for path in self._shards(section)]
            maps_of_view = [_checked_shape(values, path, layer, section) for path, values in maps]
            _check_rows(section, sum(map(len, maps_of_view)), len(self.labels))
            parts += maps_of_view
        return MappedRows(parts)

    def costs(
        self, layers: Sequence[str] = (), views: Sequence[str] = (IDENTITY,), *, counted: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the costs of extracting layers (default: all): seconds, peak_memory_mb and bytes.

        image_seconds is the time that one image takes in all views, without process startup; 0 if
        features were copied from another cache. Sections that are by-products of the passes of sections with
        keys in counted, whose costs are counted elsewhere, take no time.
        """
        sections = self.sections_of(layers, views)
        all_costs = [_read_costs(section.folder / COSTS) for section in sections]
        costs = [cost for cost in all_costs if cost.get("by_product_of") not in counted]
        return {
            "seconds": round(sum(cost["seconds"] for cost in costs), 3),
            "images": max(cost["images"] for cost in all_costs),
            "image_seconds": 0.0
            if any(cost.get("images_copied") for cost in costs)
            else sum(1 / cost["images_per_second"] for cost in costs),
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in all_costs),
            "bytes": sum(cost["bytes"] for cost in all_costs),
        }

    def sections_of(self, layers: Sequence[str] = (), views: Sequence[str] = (IDENTITY,)) -> set[Section]:
        """Return the sections that hold layers (default: all) of views."""
        return {self._section(layer, view) for layer in layers or self.layers for view in views}

    def _section(self, layer: str, view: str) -> Section:
        for section in self._sections:
            if section.view == view and layer in section.layers:
                return section
        for section in published_sections(self.folder):
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


class MappedRows:
    """Rows of arrays (n, …) of one dtype, one array after another, read when they are indexed."""

    def __init__(self, parts: Sequence[np.ndarray]):
        allow_open_files(len(parts))  # each map keeps its file open
        self._parts, self._ends = list(parts), np.cumsum([len(part) for part in parts])
        self.shape, self.dtype = (int(self._ends[-1]), *parts[0].shape[1:]), parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MappedRows({self.shape} {self.dtype}, {len(self._parts)} files)"

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows (n, …) at row numbers (n,) in a new array."""
        result = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(rows, kind="stable")  # reads each part once, from front to back
        bounds = np.searchsorted(rows[order], self._ends)
        for number in np.flatnonzero(np.diff(bounds, prepend=0)):
            places = order[bounds[number - 1] if number else 0 : bounds[number]]
            first = self._ends[number] - len(self._parts[number])
            result[places] = self._parts[number][rows[places] - first]
        return result


def _read_shard(path: Path, layer: str, section: Section) -> np.ndarray:
    with hdf5.opened(path) as file:
        values = hdf5.read_array(file, f"features/{layer}", kinds="f").astype(np.float32, copy=False)
    return _checked_shape(values, path, layer, section)


def _checked_shape(values: np.ndarray, path: Path, layer: str, section: Section) -> np.ndarray:
    if (shape := values.shape[1:]) != (expected := section.shapes()[layer]):
        raise DamagedFile(f"{path}: expected {layer} of shape {expected} per image, found {shape}")
    return values


def _check_rows(section: Section, rows: int, expected: int | None) -> None:
    if rows != expected:
        what = f"expected {expected} rows, found {rows}"
        raise DamagedFile(f"{section.folder}: {what}; delete it and run again")


def _read_columns(path: Path) -> tuple[Any, ...]:
    with hdf5.opened(path) as file:
        columns = [hdf5.read_array(file, name, kinds="iu") for name in ("labels", "index", "split")]
        names = hdf5.read_texts(file, "names")
    if any(column.shape != (len(names),) for column in columns):
        raise DamagedFile(f"{path}: its columns differ in length; delete it and run again")
    return (*columns, names)


COST_NUMBERS = ("seconds", "images", "images_per_second", "peak_memory_mb", "bytes")


def _read_costs(path: Path) -> dict[str, Any]:
    costs = read_sealed(path, "record of costs")
    numbers = [costs.get(name) for name in COST_NUMBERS]
    if not all(isinstance(number, int | float) and number > 0 for number in numbers):
        raise DamagedFile(
            f"{path}: expected positive numbers {', '.join(COST_NUMBERS)}; delete the folder and run again"
        )
    return costs


def _check_section(section: Section) -> None:
    """Raise DamagedFile if the fingerprint of a section has unknown or invalid settings."""
    try:
        row_bytes = section.row_bytes
    except (BadInput, KeyError, TypeError, ArithmeticError) as error:
        raise DamagedFile(f"{section.folder}: invalid settings in its manifest ({error!r})") from error
    if row_bytes <= 0:
        raise DamagedFile(f"{section.folder}: its manifest describes features of size 0")
