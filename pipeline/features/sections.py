"""The sections of a feature cache: which layers of which views exist on disk, and which are missing.

Each section of a cache holds the layers that were computed together for one view, in shards of consecutive
images; layers requested later become another section. Planning imports this module, so it must stay light.
"""

import contextlib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.backbones.engines import DEFAULT_ENGINE, ENGINES
from pipeline.backbones.table import BACKBONES, Backbone, WeightsChoice
from pipeline.errors import BadInput, DamagedFile
from pipeline.storage import publishing
from pipeline.storage.fingerprint import key_of
from pipeline.storage.layout import COSTS, MANIFEST

POOLINGS = ("average", "none")
STORAGES = ("float32", "float16")
SMALLEST_INPUT, LARGEST_INPUT = 32, 224  # pixels per side that a network sees
RESAMPLING = "bilinear, antialiased (tf.image.resize)"
SHARD_BYTES = 16 << 20  # about the size of a shard: the memory it takes and the work a kill can lose
VALUE_BYTES = {"float32": 4, "float16": 2}
NOTE_NUMBERS = ("seconds", "start_seconds", "peak_memory_mb")  # numeric fields of a shard's note


def parse_layers(text: str, backbone: str) -> tuple[str, ...]:
    """Return the layers named in text (comma-separated, or "all" taps) in network order; raise BadInput."""
    row = BACKBONES[backbone]
    if text == "all":
        return row.taps
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in row.layers]
    if unknown or not names:
        raise BadInput(
            f"layers {text!r}: expected names among {', '.join(row.taps)}, separated by commas, or all; "
            f"received {unknown[0] if unknown else 'none'!r}"
        )
    return tuple(layer for layer in row.layers if layer in names)


def base_fingerprint(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Return the cache's fingerprint from the fingerprint of some of its layers and views."""
    return {name: value for name, value in fingerprint.items() if name not in ("layers", "view", "views")}


def cache_fingerprint(
    dataset: dict[str, Any],
    *,
    backbone: str,
    weights: WeightsChoice,
    precision: str,
    pooling: str = "average",
    input_size: int | None = None,
    storage: str = "float32",
    engine: str = DEFAULT_ENGINE,
) -> dict[str, Any]:
    """Return the fingerprint shared by all features of a cache, whatever their layers and views.

    dataset is the fingerprint of the data set. input_size is in pixels per side, by default network_size.
    Raises BadInput.
    """
    row = BACKBONES[backbone]
    size = network_size(dataset, input_size, row)
    for name, value, choices in (("pooling", pooling, POOLINGS), ("storage", storage, STORAGES)):
        if value not in choices:
            raise BadInput(f"{name} {value!r}: expected one of {', '.join(choices)}")
    return {
        "dataset": dataset,
        "backbone": row.name,
        "weights": weights.identity,
        "pooling": pooling,
        "input_size": size,
        "resampling": RESAMPLING if size != dataset["image_size"] else "none",
        "preprocessing": {
            "subtract": list(row.subtract),
            **({"divide": list(row.divide)} if set(row.divide) != {1.0} else {}),
            "channels": "BGR" if row.flip_channels else "RGB",
        },
        "precision": precision,
        "convolutions": ENGINES[engine].describe_algorithms(row),
        "storage": storage,
        **({"engine": engine} if engine != DEFAULT_ENGINE else {}),
    }


def engine_of(base: dict[str, Any]) -> str:
    """Return the engine of a cache from its fingerprint, which names all but the default."""
    return base.get("engine", DEFAULT_ENGINE)


def network_size(dataset: dict[str, Any], input_size: int | None, row: Backbone | None = None) -> int:
    """Return the pixels per side that a network sees, input_size or its default.

    That is the default size of a backbone, or the images' up to LARGEST_INPUT. dataset is the fingerprint of
    the data set. Raises BadInput.
    """
    default = row.default_size if row else 0
    size = (default or min(dataset["image_size"], LARGEST_INPUT)) if input_size is None else input_size
    largest = max(LARGEST_INPUT, default)
    if not (SMALLEST_INPUT <= size <= largest or size == default > 0):
        raise BadInput(f"input size: expected {SMALLEST_INPUT} to {largest} pixels, received {size}")
    if row:
        row.check_size(size)
    return size


def scaling_note(dataset: dict[str, Any], size: int) -> str:
    """Return a sentence if networks of an input size see less than half of the images' pixels per side."""
    if 2 * size >= dataset["image_size"]:
        return ""
    return (
        f"images are scaled from {dataset['image_size']} to {size} px per side, less than half; "
        f"use --input-size {min(dataset['image_size'], LARGEST_INPUT)} to keep more detail"
    )


@dataclass(frozen=True)
class Section:
    """Layers of one view that are computed together: a folder of shards below the folder of the cache."""

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
        """The size of one image's features in bytes."""
        return VALUE_BYTES[self.base["storage"]] * sum(math.prod(shape) for shape in self.shapes().values())

    @property
    def dtype(self) -> str:
        """The type in which passes return its features: averages in float32, maps as they are stored."""
        return "float32" if self.base["pooling"] == "average" else self.base["storage"]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one image's features by layer: (channels,), or (S, S, channels) for maps."""
        row = BACKBONES[self.base["backbone"]]
        maps = {layer: row.map_shape(layer, self.base["input_size"]) for layer in self.layers}
        averaged = self.base["pooling"] == "average"
        return {layer: shape[-1:] if averaged else shape for layer, shape in maps.items()}

    def spans(self, count: int) -> list[tuple[int, int]]:
        """Return (start, stop) of each shard for count images: complete passes, about SHARD_BYTES."""
        step = shard_step(self.base)
        rows = max(1, SHARD_BYTES // (self.row_bytes * step)) * step
        return [(start, min(start + rows, count)) for start in range(0, count, rows)]

    def missing_bytes(self, count: int) -> int:
        """Return the size of the shards for count images that are not finished yet, in bytes."""
        spans = enumerate(self.spans(count))
        return self.row_bytes * sum(
            stop - start for number, (start, stop) in spans if not self.has_shard(number)
        )

    def shard(self, number: int) -> Path:
        """Return the path of a shard."""
        return self.folder / f"shard-{number:05d}.h5"

    def note(self, number: int) -> Path:
        """Return the path of the note that marks a shard as finished."""
        return self.folder / f"shard-{number:05d}.json"

    def read_note(self, number: int, span: tuple[int, int]) -> dict[str, Any] | None:
        """Return the note of the finished shard of (start, stop), or None if it is missing or damaged."""
        with contextlib.suppress(DamagedFile, OSError, KeyError, TypeError):
            note = publishing.read_sealed(self.note(number))
            valid = note["key"] == self.key and note["span"] == list(span)
            valid = valid and all(isinstance(note[name], int | float) for name in NOTE_NUMBERS)
            return note if valid and publishing.describe_file(self.shard(number)) == note["file"] else None
        return None

    def has_shard(self, number: int) -> bool:
        """Return whether a shard and its note exist and agree in size; the checksum is not verified."""
        with contextlib.suppress(DamagedFile, OSError, KeyError, TypeError):
            note = publishing.read_sealed(self.note(number))
            return note["key"] == self.key and note["file"]["bytes"] == self.shard(number).stat().st_size
        return False

    def why_missing(self) -> str | None:
        """Return a message why the section is not finished, or None if it is."""
        return publishing.why_incomplete(self.folder, self.fingerprint, sealed=[COSTS])


def shard_step(base: dict[str, Any]) -> int:
    """Return the number of images that shards hold multiples of: those of a pass of the engine."""
    return ENGINES[engine_of(base)].images_in_pass(base["input_size"], base["precision"])


def published_sections(cache: Path) -> list[Section]:
    """Return the sections of a cache that have a manifest, sorted; files may have been lost since."""
    sections = []
    for path in sorted(cache.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(DamagedFile, KeyError, TypeError):
            sections.append(section_at(path.parent)[0])
    return sections


def section_at(folder: Path) -> tuple[Section, publishing.Manifest]:
    """Return the section in a folder and its manifest; raise DamagedFile, also for that of another cache."""
    manifest = publishing.read_manifest(folder)
    own = manifest.fingerprint
    section = Section(folder.parent, base_fingerprint(own), own["view"], tuple(own["layers"]))
    cache = re.sub("-[0-9a-f]{12}$", f"-{key_of(section.base)}", folder.parent.name)  # copies have any name
    if (place := folder.parents[1] / cache / section.folder.name) != folder:
        raise DamagedFile(f"{folder}: its manifest belongs to {place}")
    return section, manifest


def finished_sections(cache: Path) -> list[Section]:
    """Return the sections of a cache that have a manifest and all files in the listed sizes."""
    return [section for section in published_sections(cache) if section.why_missing() is None]


def missing_sections(cache: Path, request: dict[str, Any]) -> list[Section]:
    """Return the sections to compute so that the cache holds every layer of every view of a request.

    A request is the fingerprint of the cache with layers and views. A finished section that has lost files is
    returned as it was, so that only the lost shards are computed. Layers of a view that no section holds form
    one new section.
    """
    base, layers = base_fingerprint(request), request["layers"]
    published = published_sections(cache)
    finished = [section for section in published if section.why_missing() is None]
    missing = []
    for view in request["views"]:
        covered = {layer for section in finished if section.view == view for layer in section.layers}
        for section in published:
            needed = set(section.layers) & set(layers) - covered
            if section.view == view and section not in finished and needed:
                missing.append(section)
                covered.update(section.layers)
        rest = tuple(layer for layer in layers if layer not in covered)
        missing += [Section(cache, base, view, rest)] if rest else []
    return missing


def why_missing(cache: Path, request: dict[str, Any]) -> str | None:
    """Return a message why a cache lacks a layer of a view of a request, or None if it holds all."""
    missing = missing_sections(cache, request)
    if not missing:
        return None
    first = missing[0]
    if (first.folder / MANIFEST).is_file():
        return first.why_missing()
    shards = len(list(first.folder.glob("shard-*.json")))
    progress = f" ({shards} shards are finished)" if shards else ""
    return f"{cache}: {', '.join(first.layers)} of view {first.view} not cached{progress}"


def multiply_adds(base: dict[str, Any], layers: tuple[str, ...]) -> int:
    """Return the multiply-adds of the convolutions for one image, up to the deepest of layers."""
    row = BACKBONES[base["backbone"]]
    return max(row.multiply_adds(layer, base["input_size"]) for layer in layers)
