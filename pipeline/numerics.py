"""Configure TensorFlow's precision, seeds and determinism, once in each child process."""

import contextlib
import os
from typing import Any

import keras
import tensorflow as tf

from pipeline.errors import BadInput

# What Keras would read from ~/.keras/keras.json is set here: results must not depend on that file.
if keras.config.backend() != "tensorflow":
    raise BadInput(
        f"Keras's backend: expected tensorflow, received {keras.config.backend()}; unset KERAS_BACKEND"
    )
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")


def configure(*, seed: int, precision: str, threads: int | None = None) -> dict[str, Any]:
    """Set Keras's precision and all seeds; return the settings, besides the recipe, that affect results.

    Operations are made deterministic (on two cores this has no measurable cost for convolutions), so the
    same recipe on the same machine gives the same numbers. GPU memory is allocated as needed. threads is
    the number of threads per operation, by default all; it has no effect if TensorFlow has already run in
    this process.
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
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
        "devices": sorted({device.device_type for device in tf.config.list_logical_devices()}),
    }
