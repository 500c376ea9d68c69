"""Shards: the features of consecutive images, claimed, filled and published by one process at a time."""

import contextlib
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.features.sections import Section
from pipeline.machine import peak_memory_mb, versions
from pipeline.storage import hdf5, publishing
from pipeline.storage.layout import LOCKS
from pipeline.storage.publishing import describe_file, process_name, publish_sealed, published


def claim(section: Section, number: int) -> BaseFileLock | None:
    """Return the acquired lock of a shard, or None if another process holds it."""
    path = section.folder / LOCKS / f"{section.shard(number).stem}.lock"
    lock = FileLock(path, thread_local=False)
    with publishing.explain_disk_errors(path), contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
    return lock if lock.is_locked else None


class Shard:
    """The features of images start … stop-1 of a section, collected in memory."""

    def __init__(self, section: Section, number: int, span: tuple[int, int], lock: BaseFileLock):
        self.section, self.number, self.span, self.lock = section, number, span, lock
        self.seconds, self.copied, self._filled = 0.0, 0, 0
        self.by_product_of: str | None = None
        self.features = {
            layer: np.empty((len(self), *shape), section.dtype) for layer, shape in section.shapes().items()
        }

    def __len__(self) -> int:
        return self.span[1] - self.span[0]

    def put(self, rows: np.ndarray, values: list[np.ndarray], seconds: float) -> bool:
        """Store the features of rows (n,) and add their seconds; return whether the shard is full."""
        for features, new in zip(self.features.values(), values, strict=True):
            features[rows] = new
        self._filled += len(rows)
        self.seconds += seconds
        return self._filled == len(self)


Notes = defaultdict[str, dict[int, dict[str, Any]]]  # of shards, by the key of their section and number
FLOAT16_INFINITY = 0x7C00  # its bits; those of NaN are greater
OPEN_BY_PRODUCTS = 4  # shards in memory; rows come nearly in order


class ByProduct:
    """The shards of a section that are filled from the passes of another section, whose key is source.

    Those that another process has claimed or that are not filled up are left to their own extraction.
    """

    def __init__(self, section: Section, count: int, source: str):
        self._section, self._spans, self._source = section, section.spans(count), source
        self._open: dict[int, Shard | None] = {}  # None for a shard of another process or a finished one

    def put(self, rows: np.ndarray, values: list[np.ndarray], seconds: float) -> list[Shard]:
        """Store the features of rows (n,), positions in the data set; return the shards that are full."""
        numbers, full = rows // (self._spans[0][1] - self._spans[0][0]), []
        for number in np.unique(numbers).tolist():
            if number not in self._open:
                self.release(keep=OPEN_BY_PRODUCTS - 1)
                self._open[number] = self._claimed(number)
            if shard := self._open[number]:
                own = numbers == number
                part = [layer[own] for layer in values]
                if shard.put(rows[own] - shard.span[0], part, seconds * own.mean()):
                    self._open[number] = None
                    full.append(shard)
        return full

    def release(self, *, keep: int = 0) -> None:
        """Give up the shards that are not filled, with their memory and locks, except the last `keep`."""
        unfilled = [(number, shard) for number, shard in self._open.items() if shard]
        for number, shard in unfilled[: max(0, len(unfilled) - keep)]:
            shard.lock.release()
            self._open[number] = None

    def _claimed(self, number: int) -> Shard | None:
        lock = claim(self._section, number)
        if lock is None:
            return None
        if self._section.has_shard(number):
            lock.release()
            return None
        shard = Shard(self._section, number, self._spans[number], lock)
        shard.by_product_of = self._source
        return shard


class ShardWriter(contextlib.AbstractContextManager["ShardWriter"]):
    """Checks, writes and publishes full shards in a background thread; at most one waits in its queue.

    notes holds the note of each published shard by the key of its section and its number. A failure to write
    is raised by a later put or at the end of the with block.
    """

    def __init__(self, store: ImageStore, start_seconds: float):
        self.notes: Notes = defaultdict(dict)
        self._store, self._start_seconds, self._versions = store, start_seconds, versions()
        self._thread, self._pending = ThreadPoolExecutor(1), deque[Future[None]]()

    def __exit__(self, *_: object) -> None:
        with self._thread:
            self._wait(left=0)

    def put(self, shard: Shard) -> None:
        """Queue a full shard; its lock is released after it is published."""
        self._wait(left=1)
        self._pending.append(self._thread.submit(self._write, shard))

    def _wait(self, *, left: int) -> None:
        while len(self._pending) > left:
            self._pending.popleft().result()

    def _write(self, shard: Shard) -> None:
        section, number = shard.section, shard.number
        try:
            with published(section.shard(number)) as scratch:
                write_shard(scratch, shard, self._store)
                entry = describe_file(scratch)
            note = {
                "key": section.key,
                "span": list(shard.span),
                "file": entry,
                "seconds": shard.seconds,
                "start_seconds": self._start_seconds,
                "images_copied": shard.copied,
                "peak_memory_mb": round(peak_memory_mb(), 1),
                "process": process_name(),
                "versions": self._versions,
                "by_product_of": shard.by_product_of,
            }
            publish_sealed(section.note(number), note)
            self.notes[section.key][number] = note
        finally:
            shard.lock.release()


def write_shard(path: Path, shard: Shard, store: ImageStore) -> None:
    """Write a shard's columns and stored features; raise DamagedFile if they are not finite numbers."""
    rows, storage = slice(*shard.span), shard.section.base["storage"]
    images = f"{rows.start}…{rows.stop - 1}"
    with hdf5.created(path) as file:
        for name in ("index", "labels", "split"):
            hdf5.write_array(file, name, getattr(store, name)[rows])
        hdf5.write_texts(file, "names", store.names[rows])
        if store.content is not None:
            hdf5.write_array(file, "content", store.content[rows])
        group = hdf5.create_group(file, "features")
        for layer, values in shard.features.items():
            write = hdf5.write_array if shard.section.base["pooling"] == "average" else hdf5.write_mappable
            write(group, layer, _stored(values, storage, f"{layer} for images {images}"))


def _stored(values: np.ndarray, storage: str, what: str) -> np.ndarray:
    """Return features in their storage type, which maps have already; raise DamagedFile if not finite."""
    finite = values.dtype != np.float32 or np.isfinite(values).all()
    with np.errstate(over="ignore"):
        stored = values.astype(storage, copy=False)
    if storage == "float16":
        bits = stored.view(np.int16)  # isfinite is many times slower; a ReLU leaves no negative numbers
        largest = (bits if bits.min(initial=0) == 0 else bits & 0x7FFF).max(initial=0)
        finite = finite and largest <= FLOAT16_INFINITY
        if finite and largest == FLOAT16_INFINITY:
            raise DamagedFile(
                f"features of {what} overflow {storage}, whose largest value is 65,504; use storage float32, "
                "or --prefix images to fine-tune"
            )
    if not finite:
        raise DamagedFile(
            f"features of {what} are not finite numbers; "
            "the weights are damaged or do not belong to this backbone"
        )
    return stored
