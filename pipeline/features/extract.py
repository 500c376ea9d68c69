"""Run the frozen backbone once over every image and cache its activations.

Each core runs its own passes; another thread checks, writes and hashes finished shards. A finished shard has
a note with its rows and sha256 and is never computed again. Processes that extract to the same cache claim
shards one by one, so they share the work and compute nothing twice.
"""

import functools
import shutil
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import machine
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.features.passes import Pass
from pipeline.features.reuse import ReusableFeatures
from pipeline.features.sections import Section, missing_sections
from pipeline.features.shards import ByProduct, Notes, Shard, ShardWriter, claim
from pipeline.progress import Progress, silent
from pipeline.storage.fingerprint import key_of
from pipeline.storage.layout import COSTS, LOCKS
from pipeline.storage.publishing import check_free_space, publish_manifest, publish_sealed

POLL_SECONDS = 0.2  # between checks for shards that other processes compute


def extract(
    request: dict[str, Any],
    dataset: str,
    weights: str,
    folder: str,
    batch_size: int | None = None,
    part: int = 0,
    parts: int = 1,
    averages: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compute what the cache at folder lacks of a request; return the costs of each section by key.

    request is the cache's fingerprint with layers and views; dataset and weights are the folders of a
    prepared data set and of a backbone's weights. Each shard stores, for consecutive images, `index`,
    `names`, `labels`, `split` and `features/<layer>`: (n, channels) averaged over space, or (n, height,
    width, channels) maps if pooling is "none", as float32 or float16. Memory use does not depend on the
    number of images. With parts > 1, only shards with number % parts == part are computed; the process that
    completes a section writes its manifest. Images in other caches with the same settings are not computed
    again (see features.reuse). averages, {"request", "folder"}, is for another cache: averages over space
    that the same passes compute as by-products, where it lacks the deepest of the layers. Raises DamagedFile
    if features are not finite numbers, and HeadstartError if they do not fit on the disk.
    """
    began = time.perf_counter()
    store, costs, passes = ImageStore(dataset), {}, {}
    missing = missing_sections(Path(folder), request)
    by_products: dict[str, Section] = {}  # by view
    if averages:
        wanted = {**averages["request"], "views": list({section.view for section in missing})}
        others = missing_sections(Path(averages["folder"]), wanted)
        by_products = {other.view: other for other in others if wanted["layers"][-1] in other.layers}
    sections = (*missing, *by_products.values())
    check_free_space(Path(folder), sum(one.missing_bytes(len(store)) for one in sections), "the features")
    arrays = read_weights(Path(weights)) if missing else {}
    for section in missing:
        by_product = by_products.get(section.view)
        extra = by_product.layers if by_product else ()
        if (key := (section.layers, extra)) not in passes:
            size = store.images.shape[1]  # checks the images before the first pass is timed
            passes[key] = Pass(section, arrays, image_size=size, averages=extra, size=batch_size)
        numbers = range(part, len(section.spans(len(store))), parts)
        work = _SectionWork(section, store, passes[key], progress, by_product)
        notes = work.run(numbers, start_seconds=time.perf_counter() - began)
        began = time.perf_counter()
        costs[section.key] = finish(section, len(store), notes[section.key])
        if by_product:
            finish(by_product, len(store), notes[by_product.key])
    return costs


def extract_shard(
    base: dict[str, Any],
    layers: list[str],
    view: str,
    number: int,
    dataset: str,
    weights: str,
    folder: str,
    batch_size: int | None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compute one shard of a section unless it is finished; return its note.

    base, layers and view define the section; the other arguments are those of extract. The network stays in
    memory for further shards of the section. The caller has checked the images.
    """
    began = time.perf_counter()
    section = Section(Path(folder), base, view, tuple(layers))
    work = _loaded(section, dataset, weights, batch_size)
    return work.run([number], start_seconds=time.perf_counter() - began)[section.key][number]


@functools.lru_cache(maxsize=1)
def _loaded(section: Section, dataset: str, weights: str, batch_size: int | None) -> "_SectionWork":
    store, arrays = ImageStore(dataset, images_checked=True), read_weights(Path(weights))
    forward_pass = Pass(section, arrays, image_size=store.image_size, size=batch_size)
    return _SectionWork(section, store, forward_pass, silent, None)


def finish(section: Section, count: int, notes: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
    """Publish the manifest of a section of count images and return its costs, or None if shards are missing.

    notes are those of verified shards by number; the other shards are read and checked.
    """
    spans = section.spans(count)
    read = (notes.get(number) or section.read_note(number, span) for number, span in enumerate(spans))
    finished = [note for note in read if note is not None]
    if len(finished) < len(spans):
        return None
    seconds = sum(note["seconds"] for note in finished)
    costs = {
        "seconds": round(seconds + max(note["start_seconds"] for note in finished), 3),
        "images_per_second": round(count / max(seconds, 1e-3), 3),
        "images_copied": sum(note.get("images_copied", 0) for note in finished),
        "peak_memory_mb": max(note["peak_memory_mb"] for note in finished),
        "bytes": sum(note["file"]["bytes"] for note in finished),
        "images": count,
        "processor": machine.describe()["processor"],
        "by_product_of": next((whole for note in finished if (whole := note.get("by_product_of"))), None),
    }
    publish_sealed(section.folder / COSTS, costs)
    files = {section.shard(number).name: note["file"] for number, note in enumerate(finished)}
    by_shard = [stop - start for start, stop in spans]
    versions = {key_of(note.get("versions")): note.get("versions") for note in finished}  # each set once
    facts = {"rows": count, "rows_by_shard": by_shard, "versions": [*versions.values()]}
    publish_manifest(section.folder, section.fingerprint, files, facts)
    shutil.rmtree(section.folder / LOCKS, ignore_errors=True)
    return costs


class _SectionWork:
    """Computes a section's missing shards in this process; other processes may do the same."""

    def __init__(
        self,
        section: Section,
        store: ImageStore,
        forward_pass: Pass,
        progress: Progress,
        by_product: Section | None,
    ):
        self._section, self._store, self._pass, self._progress = section, store, forward_pass, progress
        self._by_product = ByProduct(by_product, len(store), section.key) if by_product else None
        self._spans, self._reusable = section.spans(len(store)), ReusableFeatures(section, store)
        self._pending: deque[tuple[Shard, np.ndarray, Future[Any]]] = deque()
        self._last_time, self._done = 0.0, 0

    def run(self, numbers: Iterable[int], *, start_seconds: float) -> Notes:
        """Return the notes of the numbered shards, whoever computed them, and of by-products."""
        waiting, self._last_time = list(numbers), time.perf_counter()
        threads = ThreadPoolExecutor(self._pass.at_once)
        with threads as pool, ShardWriter(self._store, start_seconds) as writer:
            while waiting:
                waiting = [number for number in waiting if not self._start(number, pool, writer)]
                if waiting:  # other processes compute these
                    self._collect(writer, left=0)
                    time.sleep(POLL_SECONDS)
                    self._last_time = time.perf_counter()
            self._collect(writer, left=0)
            if self._by_product:
                self._by_product.release()
        return writer.notes

    def _start(self, number: int, pool: ThreadPoolExecutor, writer: ShardWriter) -> bool:
        """Start computing a shard, or take its note if finished; return False if another process has it."""
        lock = claim(self._section, number)
        if lock is None:
            return False
        span = self._spans[number]
        if note := self._section.read_note(number, span):
            lock.release()
            writer.notes[self._section.key][number] = note
            self._report(span[1] - span[0])
        else:
            self._compute(Shard(self._section, number, span, lock), pool, writer)
        return True

    def _compute(self, shard: Shard, pool: ThreadPoolExecutor, writer: ShardWriter) -> None:
        """Copy the reusable features of a shard's images and submit passes for the others."""
        images, available = self._store.images[slice(*shard.span)], self._reusable.available(*shard.span)
        if available.any():
            rows = np.flatnonzero(available)
            shard.copied = len(rows)
            self._put(shard, rows, self._reusable.features(shard.span[0] + rows), writer)
        missing = np.flatnonzero(~available)
        for start in range(0, len(missing), self._pass.size):
            rows = missing[start : start + self._pass.size]
            self._pending.append((shard, rows, pool.submit(self._pass, images[rows], self._section.view)))
            self._collect(writer, left=2 * self._pass.at_once)

    def _collect(self, writer: ShardWriter, *, left: int) -> None:
        """Put results into their shards, oldest first, until at most `left` passes are pending."""
        while len(self._pending) > left:
            shard, rows, future = self._pending.popleft()
            self._put(shard, rows, future.result(), writer)

    def _put(self, shard: Shard, rows: np.ndarray, values: list[np.ndarray], writer: ShardWriter) -> None:
        now = time.perf_counter()
        seconds, self._last_time = now - self._last_time, now
        own, extra = values[: len(shard.features)], values[len(shard.features) :]
        full = shard.put(rows, own, seconds)
        if self._by_product and extra:  # reused features come without
            for other in self._by_product.put(shard.span[0] + rows, extra, seconds):
                writer.put(other)
        self._report(len(rows))
        if full:
            writer.put(shard)

    def _report(self, images: int) -> None:
        self._done += images
        self._progress(f"extract features, {self._section.view}", self._done, len(self._store), "images")
