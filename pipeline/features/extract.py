"""Run the frozen backbone once over every image and cache what its layers saw.

Images go through in batches; a shard is written, hashed and published by a second thread while the next
one is computed. A shard that is finished is never computed again: beside each lies a small note with its
rows and sha256. When a shard is damaged or deleted later, a new run computes that one alone.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import hdf5, numerics
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.fingerprint import key_of
from pipeline.machine import peak_memory_mb
from pipeline.progress import Progress, silent
from pipeline.publishing import describe_file, publish_json, publish_manifest, published

if TYPE_CHECKING:
    import keras
    import numpy as np

BATCH_SIZE = 512  # about 3 % above 256 and 128 images in bfloat16 on two cores
SHARD_BYTES = 32 << 20  # what is lost at a kill, and what two shards in memory may cost
COSTS = "costs.json"


def extract(
    fingerprint: dict,
    dataset: str,
    weights: str,
    folder: str,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
) -> dict:
    """Write the features that fingerprint describes to folder, in HDF5 shards with a manifest.

    dataset and weights are the folders of a prepared data set and of a backbone's weights. Each shard
    holds, for consecutive images, `index`, `names`, `labels`, `split` and `features/<layer>`: float32
    (n, channels) averaged over space, or (n, height, width, channels) maps when pooling is "none".
    Memory does not depend on the number of images. Returns the costs: seconds, images a second, MB.
    """
    began = time.perf_counter()
    numerics.start(seed=0, precision=fingerprint["precision"])
    store, target = ImageStore(dataset), Path(folder)
    backbone = BACKBONES[fingerprint["backbone"]]
    network = build_backbone(backbone, read_weights(Path(weights)), input_size=fingerprint["input_size"])
    compute = feature_function(network, fingerprint["layers"], fingerprint["pooling"])
    spans = shard_spans(len(store), row_bytes=row_bytes_of(compute), batch_size=batch_size)
    key = key_of(fingerprint)
    missing = [number for number, span in enumerate(spans) if read_note(target, number, key, span) is None]
    done = sum(stop - start for number, (start, stop) in enumerate(spans) if number not in missing)
    with ShardWriter(target, key) as writer:
        for number in missing:
            start, stop = spans[number]
            shard_began, images, parts = time.perf_counter(), store.images(start, stop), []
            for batch in batches(images, batch_size):
                parts.append(compute(batch))
                done += len(batch)
                progress("extract features", done, len(store), "images")
            columns = _columns(
                store, start, stop, dict(zip(fingerprint["layers"], _joined(parts), strict=True))
            )
            writer.put(number, spans[number], columns, time.perf_counter() - shard_began)
    return _finish(fingerprint, target, spans, time.perf_counter() - began)


def feature_function(network: keras.Model, layers: list[str], pooling: str):
    """Return a function from (B, S, S, 3) uint8 images to a list of float32 arrays, one for each layer.

    Only the network up to the deepest layer is computed. Averages are taken in float32.
    """
    import keras
    import tensorflow as tf

    taps = keras.Model(network.input, [network.get_layer(name).output for name in layers])

    @tf.function(reduce_retracing=True)
    def forward(images):
        maps = [tf.cast(tap, tf.float32) for tap in keras.tree.flatten(taps(images, training=False))]
        return [tf.reduce_mean(tap, axis=(1, 2)) if pooling == "average" else tap for tap in maps]

    return lambda images: [values.numpy() for values in forward(tf.constant(images))]


def row_bytes_of(compute) -> int:
    """Return the bytes that one image's features take, by computing one."""
    import numpy as np

    return sum(values.nbytes for values in compute(np.zeros((1, 32, 32, 3), np.uint8)))


def shard_spans(count: int, *, row_bytes: int, batch_size: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each shard; whole batches of about SHARD_BYTES, the last one shorter."""
    rows = max(1, SHARD_BYTES // (row_bytes * batch_size)) * batch_size
    return [(start, min(start + rows, count)) for start in range(0, count, rows)]


def batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield consecutive slices of at most size images."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.h5"


def note_path(folder: Path, number: int) -> Path:
    """Return the path of the note that says that a shard is finished."""
    return folder / f"shard-{number:05d}.json"


def read_note(folder: Path, number: int, key: str, span: tuple[int, int]) -> dict | None:
    """Return the note of a finished shard of this key and (start, stop) whose file is whole, else None."""
    path = folder / shard_name(number)
    try:
        note = json.loads(note_path(folder, number).read_text(encoding="utf-8"))
        sound = note["key"] == key and note["span"] == list(span) and describe_file(path) == note["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if sound else None


class ShardWriter:
    """Publishes shards from a thread of its own; at most one waits, so memory stays bounded.

    A failure to write is raised by the next put or at the end of the with block.
    """

    def __init__(self, folder: Path, key: str):
        self._folder, self._key = folder, key
        self._queue: queue.Queue = queue.Queue(maxsize=1)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> ShardWriter:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._queue.put(None)
        self._thread.join()
        self._raise_failure()

    def put(self, number: int, span: tuple[int, int], columns: dict, seconds: float) -> None:
        """Hand over the columns of a shard's images start … stop-1, and the seconds that they took."""
        self._raise_failure()
        self._queue.put((number, span, columns, seconds))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if self._failure is not None:
                continue
            try:
                self._publish(*job)
            except BaseException as error:  # raised again in the thread that computes
                self._failure = error

    def _publish(self, number: int, span: tuple[int, int], columns: dict, seconds: float) -> None:
        path = self._folder / shard_name(number)
        with published(path) as scratch:
            write_shard(scratch, columns)
            entry = describe_file(scratch)
        note = {"key": self._key, "span": span, "file": entry, "seconds": seconds}
        publish_json(note_path(self._folder, number), note)


def write_shard(path: Path, columns: dict) -> None:
    """Write one shard: index, names, labels, split, and features by layer."""
    with hdf5.created(path) as file:
        for name in ("index", "labels", "split"):
            hdf5.write_array(file, name, columns[name])
        hdf5.write_texts(file, "names", columns["names"])
        group = hdf5.create_group(file, "features")
        for layer, values in columns["features"].items():
            hdf5.write_array(group, layer, values)


def _joined(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    import numpy as np

    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _columns(store: ImageStore, start: int, stop: int, features: dict) -> dict:
    import numpy as np

    for layer, values in features.items():
        if not np.isfinite(values).all():
            raise DamagedFile(
                f"features of {layer} for images {start}…{stop - 1} are not finite numbers; "
                "the weights are damaged or do not belong to this backbone"
            )
    return {
        "index": store.index[start:stop],
        "labels": store.labels[start:stop],
        "split": store.split[start:stop],
        "names": store.names[start:stop],
        "features": features,
    }


def _finish(fingerprint: dict, folder: Path, spans: list[tuple[int, int]], seconds: float) -> dict:
    key, rows = key_of(fingerprint), spans[-1][1]
    notes = [read_note(folder, number, key, span) for number, span in enumerate(spans)]
    if None in notes:
        raise DamagedFile(f"{folder}: expected {rows} rows in {len(spans)} shards, found fewer; run again")
    computing = sum(note["seconds"] for note in notes)
    costs = {
        "seconds": round(max(computing, seconds), 3),
        "images_per_second": round(rows / computing, 1),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "bytes": sum(note["file"]["bytes"] for note in notes),
    }
    publish_json(folder / COSTS, costs)
    files = {shard_name(number): note["file"] for number, note in enumerate(notes)}
    by_shard = [stop - start for start, stop in spans]
    publish_manifest(folder, fingerprint, files, {"rows": rows, "rows_by_shard": by_shard})
    return costs
