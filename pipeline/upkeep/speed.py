"""The speed of this machine, from a fraction of a second of matrix products."""

from __future__ import annotations

import time

import numpy as np

from pipeline.progress import Progress, silent

SIDE, SECONDS = 1024, 0.3


def matrix_rate(progress: Progress = silent) -> float:
    """Return the floating-point operations per second of float32 products."""
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    matrix @ matrix  # starts the threads
    start, products = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SECONDS:
        matrix @ matrix
        products += 1
    return 2.0 * SIDE**3 * products / seconds
