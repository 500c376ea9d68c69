"""Reuse the features of pictures that another cache of the same kind holds, found by the pictures' pixels.

A folder to which pictures are added is another data set with another cache. A picture's features depend on
its pixels and the network alone, so the old rows are copied, bit for bit.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.features.sections import Section, finished_sections
from pipeline.storage import hdf5
from pipeline.storage.publishing import read_manifest

OPEN_SHARDS = 4  # kept in memory; pictures that were beside each other mostly still are


class Donors:
    """Rows of finished sections beside a section's cache that hold the same layers of the same view."""

    def __init__(self, section: Section, store: ImageStore):
        self._layers, self._content = section.layers, store.content
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._read = functools.lru_cache(maxsize=OPEN_SHARDS)(self._read_shard)
        if self._content is None:
            return
        wanted = {digest.tobytes() for digest in self._content}
        for donor in _alike(section):
            for path in _whole_shards(donor):
                for row, digest in enumerate(_content(path)):
                    if digest in wanted:
                        self._places.setdefault(digest, (path, row))

    def known(self, start: int, stop: int) -> np.ndarray:
        """Return a mask (stop - start,) of the images whose features are known."""
        if self._content is None or not self._places:
            return np.zeros(stop - start, bool)
        return np.array([digest.tobytes() in self._places for digest in self._content[start:stop]], bool)

    def features(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the features of images at rows (n,), all of them known, by layer, each (n, …) float32."""
        assert self._content is not None
        places = [self._places[self._content[row].tobytes()] for row in rows]
        parts = [[layer[row] for layer in self._read(path)] for path, row in places]
        return [np.stack(layer).astype(np.float32) for layer in zip(*parts, strict=True)]

    def _read_shard(self, path: Path) -> list[np.ndarray]:
        with hdf5.opened(path) as file:
            return [hdf5.read_array(file, f"features/{layer}", kinds="f") for layer in self._layers]


def _alike(section: Section) -> list[Section]:
    """Return finished sections of other caches that differ in nothing but the data set."""
    return [
        other
        for cache in sorted(section.cache.parent.glob("*"))
        if cache != section.cache and cache.is_dir()
        for other in finished_sections(cache)
        if other.view == section.view and set(section.layers) <= set(other.layers)
        if _kind(other.base) == _kind(section.base)
    ]


def _kind(base: dict[str, Any]) -> dict[str, Any]:
    """Return what the features of equal pixels depend on, and how pictures became these pixels."""
    return {**base, "dataset": [base["dataset"].get(name) for name in ("image_size", "fitting")]}


def _whole_shards(section: Section) -> list[Path]:
    """Return the shards of a section whose bytes are those of its manifest; a damaged one gives nothing."""
    manifest, found = read_manifest(section.folder), []
    for name in sorted(manifest.files):
        with contextlib.suppress(DamagedFile):
            found.append(manifest.verified(name))
    return found


def _content(path: Path) -> list[bytes]:
    """Return the digest of each image of a shard; none where shards do not hold them."""
    with hdf5.opened(path) as file:
        found = hdf5.read_array(file, "content", kinds="u") if "content" in file else ()
        return [digest.tobytes() for digest in found]
