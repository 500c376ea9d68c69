"""The forward pass of a frozen backbone in OpenVINO, on the CPU."""

import threading
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from pipeline.backbones.engines import PassSpec
from pipeline.backbones.steps import Forward, folded_weights, resize_matrix, steps_to
from pipeline.backbones.table import PIXELS, Backbone, Step
from pipeline.backbones.weights import Arrays
from pipeline.machine import usable_cores

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def forward_function(row: Backbone, arrays: Arrays, spec: PassSpec) -> Forward:
    """Return a thread-safe function from the images of a pass to its arrays."""
    images = ops.parameter([spec.batch_size, spec.image_size, spec.image_size, 3], np.uint8)
    maps = {PIXELS: _preprocessed(row, images, spec)}
    for step in steps_to(row, spec.taps):
        maps[step.name] = _computed(step, arrays, [maps[name] for name in step.sources])
    outputs = [_pooled(maps[layer], pooling, spec.maps_dtype) for layer, pooling in spec.taps]
    model = openvino.Model(outputs, [images], row.name)
    settings = {"INFERENCE_PRECISION_HINT": PRECISIONS[spec.precision], "PERFORMANCE_HINT": "THROUGHPUT"}
    settings["NUM_STREAMS"] = str(usable_cores())
    compiled, local = openvino.compile_model(model, "CPU", settings), threading.local()

    def forward(batch: np.ndarray) -> list[np.ndarray]:
        if not hasattr(local, "request"):  # one for each thread that computes passes
            local.request = compiled.create_infer_request()
        local.request.infer({0: batch})
        return [local.request.get_output_tensor(number).data.copy() for number in range(len(spec.taps))]

    return forward


def _preprocessed(row: Backbone, images: Any, spec: PassSpec) -> Any:
    """Return images (B, S, S, 3) as the network's input (B, 3, S, S): resized, centered, in its order."""
    x = ops.transpose(ops.convert(images, "f32"), [0, 3, 1, 2])
    if spec.input_size != spec.image_size:
        matrix = resize_matrix(spec.image_size, spec.input_size)
        x = ops.matmul(ops.matmul(matrix, x, False, False), matrix.T.copy(), False, False)
    x = ops.subtract(x, np.array(row.subtract, np.float32).reshape(1, 3, 1, 1))
    return ops.gather(x, np.array([2, 1, 0]), np.array(1)) if row.flip_channels else x


def _pooled(maps: Any, pooling: str, maps_dtype: str) -> Any:
    """Return maps (B, C, H, W) averaged over space in float32, or as (B, H, W, C) in maps_dtype."""
    if pooling == "average":
        return ops.reduce_mean(ops.convert(maps, "f32"), [2, 3])
    return ops.convert(ops.transpose(maps, [0, 2, 3, 1]), maps_dtype.replace("loat", ""))


def _computed(step: Step, arrays: Arrays, sources: list[Any]) -> Any:
    """Return the output (B, C, H, W) of a step."""
    strides, padding = [step.stride] * 2, [step.padding] * 2
    if step.kind == "pool":
        return ops.max_pool(*sources, strides, [1, 1], padding, padding, [step.side] * 2, "floor").output(0)
    if step.kind == "add":
        return ops.relu(ops.add(*sources))
    kernel, bias = folded_weights(step, arrays)
    x = ops.convolution(*sources, kernel, strides, padding, padding, [1, 1])
    x = ops.add(x, bias.reshape(1, -1, 1, 1))
    return ops.relu(x) if step.relu else x
