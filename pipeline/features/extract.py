"""Run the frozen backbone once over every image and cache its activations.

Each core computes its own passes; another thread checks, writes and hashes finished shards. A finished
shard, with a note of its rows and sha256 beside it, is never computed again. Processes that work on the same
cache claim shards one by one, so they share the work and never do it twice.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import machine, numerics
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.features.passes import Pass, streams
from pipeline.features.reuse import Donors
from pipeline.features.sections import Section, missing_sections
from pipeline.features.shards import Shard, ShardWriter, claim
from pipeline.progress import Progress, silent
from pipeline.storage.layout import COSTS, LOCKS
from pipeline.storage.publishing import publish_manifest, publish_sealed

POLL_SECONDS = 0.2  # between looks at shards that another process computes


def extract(
    base: dict[str, Any],
    layers: list[str],
    views: list[str],
    dataset: str,
    weights: str,
    folder: str,
    batch_size: int | None = None,
    part: int = 0,
    parts: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compute what is missing of layers and views in the cache at folder; return what it cost, by section.

    base is the cache's fingerprint, dataset and weights the folders of a prepared data set and of a
    backbone's weights. Each shard holds, for consecutive images, `index`, `names`, `labels`, `split` and
    `features/<layer>`: (n, channels) averaged over space, or (n, height, width, channels) maps when
    pooling is "none", as float32 or float16. Memory does not depend on the number of images. With parts,
    only the shards whose number leaves the remainder part are computed; whoever finds all shards of a
    section there writes its manifest. Pictures that another cache of the same kind has seen are not computed
    again (see features.reuse). Raises DamagedFile when features are not finite numbers.
    """
    began = time.perf_counter()
    numerics.start(seed=0, precision=base["precision"], threads=1)
    store, costs, passes = ImageStore(dataset), {}, {}
    missing = missing_sections(Path(folder), base, tuple(layers), tuple(views))
    arrays = read_weights(Path(weights)) if missing else {}
    for section in missing:
        if section.layers not in passes:
            size = store.fingerprint["image_size"]
            passes[section.layers] = Pass(section, arrays, image_size=size, size=batch_size)
        numbers = range(part, len(section.spans(len(store))), parts)
        work = _Work(section, store, passes[section.layers], progress)
        notes = work.run(numbers, start_seconds=time.perf_counter() - began)
        began = time.perf_counter()
        costs[section.key] = finish(section, len(store), notes)
    return costs


def finish(section: Section, count: int, notes: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
    """Publish the manifest of a section of count images, and return its costs, if all shards are there.

    notes are those of shards that are known to be whole; the others are read and checked.
    """
    spans = section.spans(count)
    known = (notes.get(number) or section.read_note(number, span) for number, span in enumerate(spans))
    found = [note for note in known if note is not None]
    if len(found) < len(spans):
        return None
    seconds = sum(note["seconds"] for note in found)
    costs = {
        "seconds": round(seconds + max(note["start_seconds"] for note in found), 3),
        "images_per_second": round(count / max(seconds, 1e-3), 1),
        "peak_memory_mb": max(note["peak_memory_mb"] for note in found),
        "bytes": sum(note["file"]["bytes"] for note in found),
        "images": count,
        "processor": machine.describe()["processor"],
    }
    publish_sealed(section.folder / COSTS, costs)
    files = {section.shard(number).name: note["file"] for number, note in enumerate(found)}
    by_shard = [stop - start for start, stop in spans]
    publish_manifest(section.folder, section.fingerprint, files, {"rows": count, "rows_by_shard": by_shard})
    shutil.rmtree(section.folder / LOCKS, ignore_errors=True)
    return costs


class _Work:
    """The computing of a section's missing shards by this process, beside others that do the same."""

    def __init__(self, section: Section, store: ImageStore, one_pass: Pass, progress: Progress):
        self._section, self._store, self._pass, self._progress = section, store, one_pass, progress
        self._spans, self._donors = section.spans(len(store)), Donors(section, store)
        self._coming: deque[tuple[Shard, np.ndarray, Future[Any]]] = deque()
        self._mark, self._done = 0.0, 0

    def run(self, numbers: Iterable[int], *, start_seconds: float) -> dict[int, dict[str, Any]]:
        """Return the notes of the shards of these numbers, computed here or by others."""
        waiting, self._mark = list(numbers), time.perf_counter()
        with ThreadPoolExecutor(streams()) as pool, ShardWriter(self._store, start_seconds) as writer:
            while waiting:
                waiting = [number for number in waiting if not self._start(number, pool, writer)]
                if waiting:  # others compute these
                    self._collect(writer, left=0)
                    time.sleep(POLL_SECONDS)
                    self._mark = time.perf_counter()
            self._collect(writer, left=0)
        return writer.notes

    def _start(self, number: int, pool: ThreadPoolExecutor, writer: ShardWriter) -> bool:
        """Put a shard under way, or take its note; say whether no other process computes it."""
        lock = claim(self._section, number)
        if lock is None:
            return False
        span = self._spans[number]
        if note := self._section.read_note(number, span):
            lock.release()
            writer.notes[number] = note
            self._report(span[1] - span[0])
        else:
            self._compute(Shard(self._section, number, span, lock), pool, writer)
        return True

    def _compute(self, shard: Shard, pool: ThreadPoolExecutor, writer: ShardWriter) -> None:
        """Take over what is known of a shard's images, and put passes for the others under way."""
        images, known = self._store.images(*shard.span), self._donors.known(*shard.span)
        if known.any():
            rows = np.flatnonzero(known)
            self._put(shard, rows, self._donors.features(shard.span[0] + rows), writer)
        missing = np.flatnonzero(~known)
        for at in range(0, len(missing), self._pass.size):
            rows = missing[at : at + self._pass.size]
            self._coming.append((shard, rows, pool.submit(self._pass, images[rows], self._section.view)))
            self._collect(writer, left=2 * streams())

    def _collect(self, writer: ShardWriter, *, left: int) -> None:
        """Put results into their shards, oldest first, until so many passes are under way."""
        while len(self._coming) > left:
            shard, rows, future = self._coming.popleft()
            self._put(shard, rows, future.result(), writer)

    def _put(self, shard: Shard, rows: np.ndarray, values: list[np.ndarray], writer: ShardWriter) -> None:
        now = time.perf_counter()
        full = shard.put(rows, values, now - self._mark)
        self._mark = now
        self._report(len(rows))
        if full:
            writer.put(shard)

    def _report(self, images: int) -> None:
        self._done += images
        self._progress(f"extract features, {self._section.view}", self._done, len(self._store), "images")
