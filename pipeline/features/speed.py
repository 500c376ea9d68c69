"""The speed of an engine on this machine, from a few seconds of passes."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.table import BACKBONES, DEFAULT_BACKBONE, choose_weights
from pipeline.backbones.weights import random_arrays
from pipeline.features.passes import Pass
from pipeline.features.sections import Section, cache_fingerprint
from pipeline.progress import Progress, silent

SECONDS = 2.0


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
    while (seconds := time.perf_counter() - start) < SECONDS:
        one_pass.features_of(images, "identity", rows)
        done += len(rows)
    return done / seconds
