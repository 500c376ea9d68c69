"""The parts of a feature cache on disk: which layers of which views exist, and which are missing.

A cache is a folder for everything that shares one fingerprint (cache_fingerprint). Below it each section
holds the layers that were computed together for one view, in shards of consecutive images, finished by a
manifest. What is requested later becomes another section. Light: the graph is planned with it.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.backbones.table import BACKBONES, WeightsChoice
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import BadInput, DamagedFile
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import (
    MANIFEST,
    Manifest,
    describe_file,
    read_manifest,
    read_sealed,
    why_incomplete,
)

POOLINGS = ("average", "none")
STORAGES = ("float32", "float16")
LARGEST_INPUT = 224  # pixels
RESAMPLING = "bilinear, antialiased (tf.image.resize)"
SHARD_BYTES = 16 << 20  # what is lost at a kill, and what a shard in memory may cost
VALUE_BYTES = {"float32": 4, "float16": 2}
PASS_IMAGES = 128  # images of 32 px in one forward pass; larger images come in smaller numbers
NOTED = ("seconds", "start_seconds", "peak_memory_mb")  # numbers that the note of a shard has


def parse_layers(text: str, backbone: str) -> tuple[str, ...]:
    """Return the tap names in text (comma-separated, or "all") in network order; raise BadInput."""
    taps = BACKBONES[backbone].taps
    if text == "all":
        return taps
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in wanted if name not in taps]
    if wrong or not wanted:
        raise BadInput(
            f"layers {text!r}: expected names among {', '.join(taps)}, separated by commas, or all; "
            f"received {wrong[0] if wrong else 'none'!r}"
        )
    return tuple(tap for tap in taps if tap in wanted)


def without_columns(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Return the cache's own part of the fingerprint of some of its layers and views."""
    return {name: value for name, value in fingerprint.items() if name not in ("layers", "view", "views")}


def cache_fingerprint(
    dataset: dict[str, Any],
    *,
    backbone: str,
    weights: WeightsChoice,
    precision: str,
    pooling: str = "average",
    input_size: int = IMAGE_SIZE,
    storage: str = "float32",
) -> dict[str, Any]:
    """Return what all features of one cache have in common, whichever layers and views it holds.

    dataset is the data set's own fingerprint. Raises BadInput.
    """
    row = BACKBONES[backbone]
    for name, value, known in (("pooling", pooling, POOLINGS), ("storage", storage, STORAGES)):
        if value not in known:
            raise BadInput(f"{name} {value!r}: expected one of {', '.join(known)}")
    if not row.minimum_size <= input_size <= LARGEST_INPUT:
        raise BadInput(
            f"input size of {row.title}: expected {row.minimum_size} to {LARGEST_INPUT} pixels, "
            f"received {input_size}"
        )
    return {
        "dataset": dataset,
        "backbone": backbone,
        "weights": {"name": weights.name, "identity": weights.identity},
        "pooling": pooling,
        "input_size": input_size,
        "resampling": RESAMPLING if input_size != IMAGE_SIZE else "none",
        "preprocessing": {"subtract": list(row.subtract), "channels": "BGR" if row.flip_channels else "RGB"},
        "precision": precision,
        "convolutions": row.algorithms,
        "storage": storage,
    }


@dataclass(frozen=True)
class Section:
    """Layers of one view, computed together: a folder of shards. cache is the folder of the whole cache."""

    cache: Path
    base: dict[str, Any] = field(hash=False)
    view: str
    layers: tuple[str, ...]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The cache's fingerprint with the view and the layers."""
        return {**self.base, "view": self.view, "layers": list(self.layers)}

    @property
    def key(self) -> str:
        """The key of the fingerprint."""
        return key_of(self.fingerprint)

    @property
    def folder(self) -> Path:
        """The folder of the shards."""
        return self.cache / f"{self.view}-{self.key}"

    @property
    def row_bytes(self) -> int:
        """The bytes that the features of one image take."""
        return VALUE_BYTES[self.base["storage"]] * sum(math.prod(shape) for shape in self.shapes().values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one image's features by layer: (channels,), or (S, S, channels) as maps."""
        row = BACKBONES[self.base["backbone"]]
        blocks = {tap: number for number, tap in enumerate(row.taps, start=1)}
        maps = {layer: row.map_shape(blocks[layer], self.base["input_size"]) for layer in self.layers}
        averaged = self.base["pooling"] == "average"
        return {layer: shape[-1:] if averaged else shape for layer, shape in maps.items()}

    def spans(self, count: int) -> list[tuple[int, int]]:
        """Return (start, stop) of each shard of count images: whole passes of about SHARD_BYTES."""
        step = images_in_pass(self.base["input_size"])
        rows = max(1, SHARD_BYTES // (self.row_bytes * step)) * step
        return [(start, min(start + rows, count)) for start in range(0, count, rows)]

    def shard(self, number: int) -> Path:
        """Return the path of a shard."""
        return self.folder / f"shard-{number:05d}.h5"

    def note(self, number: int) -> Path:
        """Return the path of the note that says that a shard is finished."""
        return self.folder / f"shard-{number:05d}.json"

    def read_note(self, number: int, span: tuple[int, int]) -> dict[str, Any] | None:
        """Return the note of a finished shard of (start, stop) whose file is whole, else None."""
        with contextlib.suppress(DamagedFile, OSError, KeyError, TypeError):
            note = read_sealed(self.note(number))
            sound = note["key"] == self.key and note["span"] == list(span)
            sound = sound and all(isinstance(note[name], int | float) for name in NOTED)
            return note if sound and describe_file(self.shard(number)) == note["file"] else None
        return None

    def has_shard(self, number: int) -> bool:
        """Say whether a shard and its note are there and agree in size; their bytes are not read."""
        with contextlib.suppress(DamagedFile, OSError, KeyError, TypeError):
            note = read_sealed(self.note(number))
            return note["key"] == self.key and note["file"]["bytes"] == self.shard(number).stat().st_size
        return False

    def why_missing(self) -> str | None:
        """Return in words why the section is not finished, or None when it is."""
        return why_incomplete(self.folder, self.fingerprint)


def images_in_pass(input_size: int) -> int:
    """Return how many images of (S, S) pixels are computed together: 128 at 32 px, 2 at 224 px."""
    return max(1, PASS_IMAGES * IMAGE_SIZE**2 // input_size**2)


def known_sections(cache: Path) -> list[Section]:
    """Return the sections of a cache that have a manifest, finished or damaged since, in a fixed order."""
    found = []
    for path in sorted(cache.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(DamagedFile, KeyError, TypeError):
            found.append(section_at(path.parent)[0])
    return found


def section_at(folder: Path) -> tuple[Section, Manifest]:
    """Return the section that the manifest of a folder describes, and the manifest; raise DamagedFile."""
    manifest = read_manifest(folder)
    said = manifest.fingerprint
    section = Section(folder.parent, without_columns(said), said["view"], tuple(said["layers"]))
    if section.folder != folder:
        raise DamagedFile(f"{folder}: its manifest belongs to {section.folder}")
    return section, manifest


def finished_sections(cache: Path) -> list[Section]:
    """Return the sections of a cache whose manifest is there and whose files are of the listed sizes."""
    return [section for section in known_sections(cache) if section.why_missing() is None]


def missing_sections(
    cache: Path, base: dict[str, Any], layers: tuple[str, ...], views: tuple[str, ...]
) -> list[Section]:
    """Return what has to be computed so that every layer of every view is there; one section for a view.

    A section that was finished and has lost files is named again, so that only these are computed.
    """
    known = known_sections(cache)
    finished = [section for section in known if section.why_missing() is None]
    found = []
    for view in views:
        have = {layer for section in finished if section.view == view for layer in section.layers}
        for section in known:
            lost = set(section.layers) & set(layers) - have
            if section.view == view and section not in finished and lost:
                found.append(section)
                have.update(section.layers)
        rest = tuple(layer for layer in layers if layer not in have)
        found += [Section(cache, base, view, rest)] if rest else []
    return found


def why_missing(
    cache: Path, base: dict[str, Any], layers: tuple[str, ...], views: tuple[str, ...]
) -> str | None:
    """Return in words why a cache does not hold every layer of every view, or None when it does."""
    missing = missing_sections(cache, base, layers, views)
    if not missing:
        return None
    first = missing[0]
    if (first.folder / MANIFEST).is_file():
        return first.why_missing()
    shards = len(list(first.folder.glob("shard-*.json")))
    started = f"; {shards} shards of it are finished" if shards else ""
    return f"{cache}: {', '.join(first.layers)} of view {first.view} not cached{started}"


def multiply_adds(base: dict[str, Any], layers: tuple[str, ...]) -> int:
    """Return the products that convolutions take for one image, up to the deepest of layers."""
    row = BACKBONES[base["backbone"]]
    deepest = max(row.taps.index(layer) for layer in layers)
    return row.multiply_adds(deepest + 1, base["input_size"])
