"""The speed of this machine, from a fraction of a second of matrix products."""

from __future__ import annotations

import time

import numpy as np

from pipeline.progress import Progress, silent

SIDE, ROUNDS = 1024, 10


def matrix_rate(progress: Progress = silent) -> float:
    """Return the floating-point operations per second of the fastest of several float32 products."""
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2.0 * SIDE**3 / min(seconds)
