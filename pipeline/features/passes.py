"""Forward passes: fixed-size batches of images through the backbone, one batch per core at a time."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.engines import ENGINES, Engine, PassSpec
from pipeline.backbones.table import BACKBONES, DEFAULT_BACKBONE, choose_weights
from pipeline.backbones.weights import Arrays, random_arrays
from pipeline.extensions import resolve
from pipeline.features.sections import Section, cache_fingerprint, engine_of
from pipeline.progress import Progress, silent
from pipeline.views import parse_view

MEMORY_BYTES = 1 << 30  # limit for the feature maps of all concurrent passes
PIXEL_BYTES = 3 * 64 * 4  # at the widest layers of a VGG three maps of 64 channels are alive
MEASURED_SECONDS = 2.0  # of an engine


def images_within_memory(engine: Engine, input_size: int, precision: str, passes: int) -> int:
    """Return the number of images per pass: the engine's, or fewer if memory requires it."""
    limit = MEMORY_BYTES // (passes * PIXEL_BYTES * input_size**2)
    return max(1, min(engine.images_in_pass(input_size, precision), limit))


class Pass:
    """A section's backbone to its deepest layer, for size images at a time, and averages of other layers.

    Sets up its engine in this process. Raises BadInput if the engine is not installed.
    """

    def __init__(
        self,
        section: Section,
        arrays: Arrays,
        *,
        image_size: int,
        averages: tuple[str, ...] = (),
        size: int | None = None,
    ):
        base = section.base
        engine = ENGINES[engine_of(base)]
        engine.check_installed()
        if engine.configure:
            resolve(engine.configure)(seed=0, precision=base["precision"], threads=1)
        self.at_once: int = resolve(engine.passes)()  # passes that may run at the same time
        self.size = size or images_within_memory(engine, base["input_size"], base["precision"], self.at_once)
        taps = [(layer, base["pooling"]) for layer in section.layers]
        taps += [(layer, "average") for layer in averages]
        sizes = {"image_size": image_size, "input_size": base["input_size"], "batch_size": self.size}
        spec = PassSpec(taps=taps, precision=base["precision"], maps_dtype=section.dtype, **sizes)
        self._forward = resolve(engine.forward)(BACKBONES[base["backbone"]], arrays, spec)
        black = np.zeros((self.size, image_size, image_size, 3), np.uint8)
        self._forward(black)  # finish compiling before several threads call it

    def __call__(self, images: np.ndarray, view: str) -> list[np.ndarray]:
        """Return features of up to size uint8 images under a view: an array per layer, then per average."""
        batch = apply_view(images, view)
        # Padding with black images keeps an image's features independent of the batch size.
        black = np.zeros((self.size - len(images), *batch.shape[1:]), np.uint8)
        return [values[: len(images)] for values in self._forward(np.concatenate([batch, black]))]

    def features_of(self, images: np.ndarray, view: str, rows: np.ndarray | None = None) -> list[np.ndarray]:
        """Return features of any number of images, or of those at rows (n,); several passes run at once."""
        numbers = np.arange(len(images)) if rows is None else rows
        batches = [numbers[start : start + self.size] for start in range(0, len(numbers), self.size)]
        with ThreadPoolExecutor(self.at_once) as pool:
            parts = list(pool.map(lambda batch: self(images[batch], view), batches))
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


def apply_view(images: Any, view: str, library: Any = np) -> Any:
    """Apply a view to (n, height, width, channels) images; shape and dtype stay the same.

    library has flip and pad for them: NumPy, or keras.ops for tensors.
    """
    flipped, down, right = parse_view(view)
    if flipped:
        images = library.flip(images, axis=2)
    if down or right:
        height, width = images.shape[1:3]
        padding = ((0, 0), (abs(down), abs(down)), (abs(right), abs(right)), (0, 0))
        top, left = abs(down) - down, abs(right) - right
        padded = library.pad(images, padding, mode="reflect")
        images = padded[:, top : top + height, left : left + width]
    return np.ascontiguousarray(images) if library is np else images


def images_per_second(engine: str, precision: str, input_size: int, progress: Progress = silent) -> float:
    """Return how many images of an input size VGG16 computes in a second, up to its last tap."""
    progress(f"measure {engine}", 0, 1, "engines")
    row, weights = BACKBONES[DEFAULT_BACKBONE], choose_weights("random", DEFAULT_BACKBONE)
    options: dict[str, Any] = {"precision": precision, "input_size": input_size, "engine": engine}
    base = cache_fingerprint({"image_size": input_size}, backbone=row.name, weights=weights, **options)
    section = Section(Path(), base, "identity", row.taps)
    one_pass = Pass(section, random_arrays(row, seed=0), image_size=input_size)
    images = np.random.default_rng(0).integers(0, 256, (one_pass.size, input_size, input_size, 3), np.uint8)
    rows = np.tile(np.arange(one_pass.size), 2 * one_pass.at_once)
    one_pass.features_of(images, "identity", rows)  # warm up
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < MEASURED_SECONDS:
        one_pass.features_of(images, "identity", rows)
        done += len(rows)
    return done / seconds
