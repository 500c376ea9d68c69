"""Small ONNX files, encoded by hand from the specification of protobuf."""

from __future__ import annotations

import numpy as np


def varint(number: int) -> bytes:
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def onnx_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx_file(arrays: dict[str, np.ndarray], data_type: int = 1) -> bytes:
    """Return an ONNX file that has arrays as float32 initializers."""
    graph = onnx_field(2, b"a graph with a name, which the reader skips")
    for name, values in arrays.items():
        sides = b"".join(map(varint, values.shape))
        tensor = onnx_field(1, sides) + varint(2 << 3) + varint(data_type) + onnx_field(8, name.encode())
        graph += onnx_field(5, tensor + onnx_field(9, values.astype("<f4").tobytes()))
    return varint(1 << 3) + varint(10) + onnx_field(7, graph)
