"""Features of any pictures or arrays of images, cached by content.

A content cache holds the features of one backbone, its layers, sizes and views by the sha256 of each image's
pixels, so that a picture is computed once, whatever its name and in whatever order it comes.
"""

import contextlib
import functools
import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import machine
from pipeline.backbones.weights import read_weights
from pipeline.datasets.pictures import read_picture
from pipeline.errors import DamagedFile
from pipeline.features.passes import Pass
from pipeline.features.sections import Section
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import published

BLOCK = 1024  # images that are held in memory at a time, and rows of a file of the cache


class ContentCache:
    """Features (D,) float32 by the sha256 (32 bytes) of an image's pixels, in a folder of HDF5 files.

    Files are published atomically, so several processes can share a folder. A damaged file is ignored; what
    it held is computed again.
    """

    def __init__(self, root: Path, fingerprint: dict[str, Any]):
        self.folder = root / key_of(fingerprint)
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._read: tuple[Path | None, np.ndarray] = (None, np.empty(0))
        for path in sorted(self.folder.glob("*.h5")):
            self._index(path)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def add(self, digests: Sequence[bytes], compute: Callable[[], np.ndarray]) -> None:
        """Publish the features (n, D) of images with these digests, which are computed here."""
        path = self.folder / f"{uuid.uuid4().hex}.h5"
        with published(path) as scratch:
            scratch.touch()  # fails before the work if the folder cannot be written
            features = compute()
            with hdf5.created(scratch) as file:
                hdf5.write_array(file, "digests", np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
                hdf5.write_array(file, "features", features)
        self._index(path)

    def rows(self, digests: Sequence[bytes]) -> np.ndarray:
        """Return the features (n, D) float32 of images with these digests; all must be in the cache."""
        places, rows = [self._places[digest] for digest in digests], dict[bytes, np.ndarray]()
        for path in dict.fromkeys(path for path, _ in places):
            if self._read[0] != path:
                with hdf5.opened(path) as file:  # each chunk has a checksum
                    self._read = path, hdf5.read_array(file, "features", kinds="f")
            pairs = zip(digests, places, strict=True)
            rows |= {digest: self._read[1][row] for digest, (own, row) in pairs if own == path}
        return np.stack([rows[digest] for digest in digests])

    def _index(self, path: Path) -> None:
        try:
            with hdf5.opened(path) as file:
                digests = hdf5.read_array(file, "digests", kinds="u")
                hdf5.read_array(file, "features", kinds="f")
        except DamagedFile:
            with contextlib.suppress(OSError):  # of a folder that cannot be written
                path.unlink(missing_ok=True)
            return
        self._places |= {digest.tobytes(): (path, row) for row, digest in enumerate(digests)}


def read_pictures(paths: list[str], size: int) -> list[np.ndarray | DamagedFile]:
    """Return pictures as (size, size, 3) uint8 RGB in order; for those that are unreadable, the error."""

    def read(path: str) -> np.ndarray | DamagedFile:
        try:
            return read_picture(Path(path), size)
        except DamagedFile as error:
            return error

    with ThreadPoolExecutor(machine.usable_cores()) as pool:
        return list(pool.map(read, paths))


def digest_of(image: np.ndarray) -> bytes:
    """Return the sha256 of an image's shape and pixels."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()


def embed(
    request: dict[str, Any],
    weights: str,
    cache: str,
    paths: list[str] | None = None,
    array: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compute the features that a content cache lacks, of picture files or of an array file (.npy).

    request has base (the fingerprint of a cache with "image_size" as its data set), layers and views, over
    which features are averaged. Pictures are fitted to the image size. Returns the hex digest of each image
    in order, None for unreadable ones, and an error for each of those.
    """
    images = np.load(array, mmap_mode="r", allow_pickle=False) if array else np.empty(0)
    count, size = len(paths or images), request["base"]["dataset"]["image_size"]
    store = ContentCache(Path(cache), request)

    @functools.cache
    def network() -> Pass:  # loaded only if there is anything to compute
        section = Section(Path(), request["base"], request["views"][0], tuple(request["layers"]))
        return Pass(section, read_weights(Path(weights)), image_size=size)

    def compute(block: np.ndarray) -> np.ndarray:  # (n, S, S, 3) uint8 to (n, D) float32
        views = [np.concatenate(network().features_of(block, view), axis=1) for view in request["views"]]
        return np.asarray(sum(views) / len(views), np.float32)

    digests: list[str | None] = []
    unreadable: list[str] = []
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        block: list[Any] = read_pictures(paths[start:stop], size) if paths else list(images[start:stop])
        unreadable += [str(image) for image in block if isinstance(image, DamagedFile)]
        keys = [None if isinstance(image, DamagedFile) else digest_of(image) for image in block]
        missing = {key: image for key, image in zip(keys, block, strict=True) if key and key not in store}
        if missing:
            store.add(list(missing), functools.partial(compute, np.stack(list(missing.values()))))
        digests += [key.hex() if key else None for key in keys]
        progress("embed", stop, count, "images")
    return {"digests": digests, "unreadable": unreadable}


def blocks_of(cache: Path, request: dict[str, Any], digests: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield features (n, D) float32 of images by their digests, up to BLOCK at a time."""
    store = ContentCache(cache, request)
    for start in range(0, len(digests), BLOCK):
        yield store.rows([bytes.fromhex(digest) for digest in digests[start : start + BLOCK]])
