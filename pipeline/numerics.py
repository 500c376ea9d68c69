"""The state in which TensorFlow computes: precision, seeds, determinism; set once in each child process."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import keras
import tensorflow as tf


def start(*, seed: int, precision: str, threads: int | None = None) -> dict[str, Any]:
    """Set Keras's precision and every seed; return what the bits of a result depend on besides the recipe.

    Operations are made deterministic (on two cores this costs nothing measurable for convolutions), so the
    same recipe on the same machine gives the same numbers. A GPU's memory is taken as it is needed.
    threads is how many compute one operation, by default all; it stays as it is where TensorFlow has
    computed in this process before.
    """
    if threads:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    return {
        "precision": precision,
        "deterministic_operations": True,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
        "devices": sorted({device.device_type for device in tf.config.list_logical_devices()}),
    }
