"""A backbone for any framework: resizing as a matrix, then a list of convolutions, pools and sums of maps.

Batch normalization is folded into the convolution before it.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.backbones.table import Backbone, Convolution
from pipeline.backbones.weights import Arrays

NORM_EPSILON = 1.001e-5  # of ResNet50 in keras.applications
PIXELS = "pixels"  # the source of the first step


@dataclass(frozen=True)
class Step:
    """One step: its kind ("conv", "pool" or "add"), the name of its output, and the names of its sources.

    A convolution has the layer of its weights; a pool is a maximum over side x side pixels. Both have a
    stride and a padding in pixels. relu says whether a ReLU follows.
    """

    kind: str
    name: str
    sources: tuple[str, ...]
    convolution: Convolution | None = None
    side: int = 0
    stride: int = 1
    padding: int = 0
    relu: bool = True


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
    """Return the steps of a backbone up to the deepest layer of taps, pairs of a layer and its pooling.

    The outputs of its blocks have the names of its taps.
    """
    steps = _chain(row) if row.chain else _residual(row)
    last = max(number for number, step in enumerate(steps, start=1) if step.name in dict(taps))
    return steps[:last]


def _chain(row: Backbone) -> list[Step]:
    """Return the steps of a VGG: 3x3 convolutions, and a 2x2 pool at the end of each block."""
    steps, source = [], PIXELS
    for block in row.outputs:
        for convolution in block.convolutions:
            steps.append(Step("conv", convolution.layer, (source,), convolution, padding=1))
            source = convolution.layer
        steps.append(Step("pool", block.layer, (source,), side=2, stride=2, relu=False))
        source = block.layer
    return steps


def _residual(row: Backbone) -> list[Step]:
    """Return the steps of ResNet50, version 1 (He et al. 2016, with strides as in keras.applications)."""
    stem, *stages = row.outputs
    (first,) = stem.convolutions
    steps = [Step("conv", first.layer, (PIXELS,), first, stride=2, padding=3)]
    # Maps are not negative after the ReLU, so a padding of zeros does not change the maximum.
    steps.append(Step("pool", stem.layer, (first.layer,), side=3, stride=2, padding=1, relu=False))
    source = stem.layer
    for number, block in enumerate(stages):
        by_name = {convolution.layer: convolution for convolution in block.convolutions}
        for prefix in (layer.removesuffix("_1_conv") for layer in by_name if layer.endswith("_1_conv")):
            shortcut, stride = source, 1
            if f"{prefix}_0_conv" in by_name:
                stride, shortcut = 1 if number == 0 else 2, f"{prefix}_0_conv"
                steps.append(Step("conv", shortcut, (source,), by_name[shortcut], stride=stride, relu=False))
            for position, side in ((1, 1), (2, 3), (3, 1)):
                name = f"{prefix}_{position}_conv"
                options = {"stride": stride if position == 1 else 1, "padding": side // 2}
                steps.append(Step("conv", name, (source,), by_name[name], relu=position < 3, **options))
                source = name
            steps.append(Step("add", f"{prefix}_out", (shortcut, source)))
            source = f"{prefix}_out"
    return steps


def folded_weights(step: Step, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel (out, in, h, w) and bias (out,) float32, the normalization that follows folded in."""
    assert step.convolution is not None
    kernel, bias = arrays[step.convolution.layer]
    if step.convolution.norm:
        gamma, beta, mean, variance = arrays[step.convolution.norm]
        scale = gamma / (variance + NORM_EPSILON) ** 0.5
        kernel, bias = kernel * scale, (bias - mean) * scale + beta
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias
