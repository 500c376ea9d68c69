"""Compute the predictions of an export in a process that cannot import this project.

    python -P without_project.py FORMAT EXPORT IMAGES ROWS OUT BATCH

IMAGES and ROWS are .npy files: uint8 images (N, S, S, 3), and the positions (n,) of those to predict. OUT
gets the probabilities (n, C) float32 as .npy. This file imports nothing from the project.
"""

import sys
from collections.abc import Callable

import numpy as np


def load_keras(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the predictions of a .keras file."""
    import keras

    return keras.models.load_model(path, compile=False).predict_on_batch


def load_saved_model(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the predictions of a TensorFlow SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda images: loaded.serve(images).numpy()  # loaded keeps its variables alive


def load_tflite(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the predictions of a TensorFlow Lite file."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=path, num_threads=2)
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(inputs["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return predict


LOADERS = {"keras": load_keras, "saved_model": load_saved_model, "tflite": load_tflite}


def main(kind: str, export: str, images: str, rows: str, out: str, batch: str) -> None:
    """Write the probabilities of an export for rows of images."""
    for package in ("pipeline", "tasks", "headstart"):
        sys.modules[package] = None  # type: ignore[assignment]  # an import fails even where it is installed
    predict = LOADERS[kind](export)
    pixels, chosen, size = np.load(images, mmap_mode="r"), np.load(rows), int(batch)
    starts = range(0, len(chosen), size)
    np.save(out, np.concatenate([predict(pixels[chosen[start : start + size]]) for start in starts]))


if __name__ == "__main__":
    main(*sys.argv[1:])
