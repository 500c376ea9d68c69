"""Forward passes of a few images each; every core computes passes of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from pipeline import machine
from pipeline.backbones.forward import forward_function
from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import Arrays
from pipeline.features.sections import Section, images_in_pass
from pipeline.views import parts_of

MEMORY_BYTES = 1 << 30  # what the maps of all passes at a time may take
PIXEL_BYTES = 3 * 64 * 4  # three maps of 64 channels are alive at the widest place of a VGG


def streams() -> int:
    """Return how many passes are computed at a time: one for each core, or one on a GPU."""
    return 1 if tf.config.list_physical_devices("GPU") else machine.usable_cores()


def affordable_images(input_size: int) -> int:
    """Return how many images a pass takes: images_in_pass, or fewer where many cores share the memory."""
    room = MEMORY_BYTES // (streams() * PIXEL_BYTES * input_size**2)
    return max(1, min(images_in_pass(input_size), room))


class Pass:
    """The network up to the deepest of a section's layers, compiled for size images at a time."""

    def __init__(self, section: Section, arrays: Arrays, *, image_size: int, size: int | None = None):
        base = section.base
        self.size = size or affordable_images(base["input_size"])
        self._forward = forward_function(
            BACKBONES[base["backbone"]],
            arrays,
            image_size=image_size,
            input_size=base["input_size"],
            layers=list(section.layers),
            pooling=base["pooling"],
            precision=base["precision"],
            batch_size=self.size,
        )
        black = np.zeros((self.size, image_size, image_size, 3), np.uint8)
        self._forward(black)  # compiles the rest, before many threads would

    def __call__(self, images: np.ndarray, view: str) -> list[np.ndarray]:
        """Return the features of up to size uint8 images under a view, by layer.

        Fewer images are filled up with black ones, so that an image's features do not depend on how many
        came with it.
        """
        shown = show(images, view)
        black = np.zeros((self.size - len(images), *shown.shape[1:]), np.uint8)
        return [values[: len(images)] for values in self._forward(np.concatenate([shown, black]))]


def show(images: np.ndarray, view: str) -> np.ndarray:
    """Return the view of (n, height, width, channels) images as an array of the same shape and dtype."""
    return np.ascontiguousarray(shown_by(np, images, view))


def shown_by(library: Any, images: Any, view: str) -> Any:
    """Return the view of images by flip and pad of a library, which is NumPy or, for tensors, keras.ops."""
    mirrored, down, right = parts_of(view)
    if mirrored:
        images = library.flip(images, axis=2)
    if not (down or right):
        return images
    height, width = images.shape[1:3]
    around = ((0, 0), (abs(down), abs(down)), (abs(right), abs(right)), (0, 0))
    top, left = abs(down) - down, abs(right) - right
    return library.pad(images, around, mode="reflect")[:, top : top + height, left : left + width]
