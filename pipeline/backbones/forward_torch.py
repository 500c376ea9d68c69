"""The forward pass of a frozen backbone in PyTorch: on CUDA, Apple's MPS or the CPU."""

import contextlib
import threading
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.backbones.engines import PassSpec
from pipeline.backbones.steps import Forward, folded_weights, resize_matrix, steps_to
from pipeline.backbones.table import PIXELS, Backbone, Step
from pipeline.backbones.weights import Arrays

PASSES_ON_GPU = 3  # one computes while the images of another, and the results of a third, are copied


def device() -> str:
    """Return the device that passes run on: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def passes_at_once() -> int:
    """Return the number of passes that run at once; on the CPU one uses all cores."""
    return PASSES_ON_GPU if device() == "cuda" else 1


def forward_function(row: Backbone, arrays: Arrays, spec: PassSpec) -> Forward:
    """Return a thread-safe function from the images of a pass to its arrays."""
    where, dtype = device(), getattr(torch, spec.precision)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # passes have one size
    steps = steps_to(row, spec.taps)
    weights = {step.name: _weights(step, arrays, where, dtype) for step in steps if step.kind == "conv"}
    means = torch.tensor(row.subtract, device=where)
    matrix = torch.from_numpy(resize_matrix(spec.image_size, spec.input_size)).to(where)
    local = threading.local()

    def compute(images: torch.Tensor) -> list[torch.Tensor]:
        x = images.float()
        if spec.input_size != spec.image_size:
            x = torch.einsum("ih,jw,bhwc->bijc", matrix, matrix, x)
        x = x - means
        x = (x.flip(-1) if row.flip_channels else x).permute(0, 3, 1, 2)
        maps = {PIXELS: x.to(dtype=dtype, memory_format=torch.channels_last)}
        for step in steps:
            maps[step.name] = _computed(step, weights.get(step.name), [maps[name] for name in step.sources])
        return [_pooled(maps[layer], pooling, spec.maps_dtype) for layer, pooling in spec.taps]

    def forward(batch: np.ndarray) -> list[np.ndarray]:
        images = torch.from_numpy(np.ascontiguousarray(batch))
        with torch.inference_mode(), _stream(local, where):
            if where == "cuda":
                images = images.pin_memory().to(where, non_blocking=True)
            return [values.cpu().numpy() for values in compute(images.to(where))]

    return forward


def _stream(local: threading.local, where: str) -> Any:
    """Return a context in which a thread's work goes to a CUDA stream of its own, so that copies overlap."""
    if where != "cuda":
        return contextlib.nullcontext()
    if not hasattr(local, "stream"):
        local.stream = torch.cuda.Stream()
    return torch.cuda.stream(local.stream)


def _weights(step: Step, arrays: Arrays, where: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return kernel (out, in, h, w) and bias (out,) of a convolution."""
    kernel, bias = folded_weights(step, arrays)
    weights = torch.from_numpy(kernel).to(device=where, dtype=dtype, memory_format=torch.channels_last)
    return weights, torch.from_numpy(bias.copy()).to(device=where, dtype=dtype)


def _pooled(maps: torch.Tensor, pooling: str, maps_dtype: str) -> torch.Tensor:
    """Return maps (B, C, H, W) averaged over space in float32, or as (B, H, W, C) in maps_dtype."""
    if pooling == "average":
        return maps.float().mean(dim=(2, 3))
    return maps.permute(0, 2, 3, 1).to(getattr(torch, maps_dtype))


def _computed(
    step: Step, weights: tuple[torch.Tensor, torch.Tensor] | None, sources: list[Any]
) -> torch.Tensor:
    """Return the output (B, C, H, W) of a step."""
    if step.kind == "pool":
        return functional.max_pool2d(sources[0], step.side, step.stride, step.padding)
    if step.kind == "add":
        return functional.relu(sources[0] + sources[1], inplace=True)
    assert weights is not None
    x = functional.conv2d(sources[0], *weights, stride=step.stride, padding=step.padding)
    return functional.relu(x, inplace=True) if step.relu else x
