"""What other frameworks compute of a backbone: resizing as a matrix, its steps, and folded weights."""

from collections.abc import Callable

import numpy as np

from pipeline.backbones.table import Backbone, Step
from pipeline.backbones.weights import Arrays

Forward = Callable[[np.ndarray], list[np.ndarray]]  # from the images of a pass to its arrays
NORM_EPSILON = 1.001e-5  # of ResNet50 in keras.applications


def resize_matrix(source: int, target: int) -> np.ndarray:
    """Return the weights (target, source) float32 of pixels in pixels resized bilinearly along one axis.

    The kernel is a triangle whose half-width is one pixel of the coarser of both grids, which avoids aliases.
    """
    scale = source / target
    centers = (np.arange(target) + 0.5) * scale
    distances = np.abs(np.arange(source) + 0.5 - centers[:, None])
    weights = np.maximum(0, 1 - distances / max(scale, 1))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def steps_to(row: Backbone, taps: list[tuple[str, str]]) -> list[Step]:
    """Return the steps of a backbone up to the deepest layer of taps, pairs of a layer and its pooling."""
    last = max(number for number, step in enumerate(row.steps, start=1) if step.name in dict(taps))
    return list(row.steps[:last])


def folded_weights(step: Step, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel (out, in, h, w) and bias (out,) float32, the normalization that follows folded in."""
    kernel, bias = arrays[step.name]
    if step.norm:
        gamma, beta, mean, variance = arrays[step.norm]
        scale = gamma / (variance + NORM_EPSILON) ** 0.5
        kernel, bias = kernel * scale, (bias - mean) * scale + beta
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias
