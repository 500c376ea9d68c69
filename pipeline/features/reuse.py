"""Reuse features from other caches with the same settings; images are matched by a hash of their pixels.

Adding pictures to a folder makes it another data set with another cache. An image's features depend only on
its picture, how it is fitted, and the network, so existing rows are copied bit for bit.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.store import ImageStore
from pipeline.features.sections import Section, finished_sections
from pipeline.storage import hdf5
from pipeline.storage.publishing import undamaged_files

OPEN_SHARDS = 4  # kept in memory; neighboring images usually share a shard


class ReusableFeatures:
    """A section's features that other caches already hold: same images, layers, view and settings."""

    def __init__(self, section: Section, store: ImageStore):
        self._layers = section.layers
        self._places: list[tuple[Path, int] | None] = [None] * len(store)  # a shard and a row of it
        self._read = functools.lru_cache(maxsize=OPEN_SHARDS)(self._read_shard)
        if store.content is None:
            return
        places: dict[bytes, tuple[Path, int]] = {}
        for other in _matching_sections(section):
            for path in sorted(other.folder / name for name in undamaged_files(other.folder)):
                for row, digest in enumerate(_content(path)):
                    places.setdefault(digest, (path, row))
        self._places = [places.get(digest.tobytes()) for digest in store.content]

    def available(self, start: int, stop: int) -> np.ndarray:
        """Return a mask (stop - start,) of the images whose features can be reused."""
        return np.array([place is not None for place in self._places[start:stop]], bool)

    def features(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the features of available images at rows (n,), one (n, …) array per layer."""
        places = filter(None, (self._places[row] for row in rows))
        parts = [[layer[row] for layer in self._read(path)] for path, row in places]
        return [np.stack(layer) for layer in zip(*parts, strict=True)]

    def _read_shard(self, path: Path) -> list[np.ndarray]:
        with hdf5.opened(path) as file:
            return [hdf5.read_array(file, f"features/{layer}", kinds="f") for layer in self._layers]


def _matching_sections(section: Section) -> list[Section]:
    """Return finished sections of other caches that differ only in the data set."""
    return [
        other
        for cache in sorted(section.cache.parent.glob("*"))
        if cache != section.cache and cache.is_dir()
        for other in finished_sections(cache)
        if other.view == section.view and set(section.layers) <= set(other.layers)
        if _settings(other.base) == _settings(section.base)
    ]


def _settings(base: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that determine the features of an image, and how it was cropped and resized."""
    return {**base, "dataset": [base["dataset"].get(name) for name in ("image_size", "fitting")]}


def _content(path: Path) -> list[bytes]:
    """Return the pixel digest of each image of a shard; empty if the shard does not store them."""
    with hdf5.opened(path) as file:
        digests = hdf5.read_array(file, "content", kinds="u") if "content" in file else ()
        return [digest.tobytes() for digest in digests]
