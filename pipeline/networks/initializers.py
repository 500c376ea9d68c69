"""Initializers that Keras does not have: identity (Dirac) convolutions and a whitening stem."""

import keras
import numpy as np

from pipeline.recipes.base import PATCH

WHITENED_PIXELS = 5000 * 32**2  # enough for the covariance of 12 numbers
RIDGE = 5e-4  # added to eigenvalues, in units of a standardized pixel's variance; from airbench


def initialize_dirac(model: keras.Model) -> None:
    """Initialize every trainable convolution as the identity: filter i is 1 at its center in channel i.

    Filters beyond the number of input channels are uniform in +-1/sqrt(fan in). From Zagoruyko & Komodakis
    (2017, DiracNets), as used in airbench (Jordan 2024).
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.trainable:
            initial = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
            layer.kernel.assign(dirac(keras.ops.convert_to_numpy(initial(layer.kernel.shape))))


def dirac(kernel: np.ndarray) -> np.ndarray:
    """Return kernel (H, W, in, out) with its first filters, one per input channel, set to the identity."""
    height, width, channels, filters = kernel.shape
    identity, same = kernel.copy(), np.arange(min(channels, filters))
    identity[..., same] = 0
    identity[height // 2, width // 2, same, same] = 1
    return identity


def whitening_kernel(images: np.ndarray) -> np.ndarray:
    """Return filters (2, 2, C, 8 C) that whiten 2x2 patches of images (N, H, W, C), and their negatives.

    The filters are eigenvectors of the patches' covariance, each divided by the square root of its
    eigenvalue, so the outputs have identity covariance. From airbench (Jordan 2024), after Page (2018).
    """
    windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), (1, 2)), 3, -1)
    patches = windows.reshape(-1, PATCH * PATCH * images.shape[-1]).astype(np.float64)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / np.sqrt(values + RIDGE))[:, ::-1]
    both = np.concatenate([filters, -filters], axis=1)
    return both.reshape(PATCH, PATCH, images.shape[-1], -1).astype(np.float32)
