"""Read the arrays of an ONNX file as plain data, without the package onnx."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pipeline.errors import DamagedFile

FLOAT = 1  # TensorProto.DataType
LARGEST_FILE = 1 << 30  # bytes
ONNX_START = b"\x08"  # the tag of the first field, the version of the format
MAX_SIDES = 4
# Message, its fields (name, number, type, whether repeated): the part of onnx.proto that holds arrays.
MESSAGES = {
    "Tensor": [("dims", 1, "INT64", True), ("data_type", 2, "INT32", False), ("name", 8, "STRING", False)]
    + [("raw_data", 9, "BYTES", False)],
    "Graph": [("initializer", 5, "Tensor", True)],
    "Model": [("graph", 7, "Graph", False)],
}


def read_initializers(path: Path) -> dict[str, np.ndarray]:
    """Return the float32 initializers of an ONNX file by name; arrays stored in another way are left out.

    Raises DamagedFile if the file is not ONNX or an array's size does not match its shape.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise DamagedFile(f"{path}: expected an ONNX file of at most {LARGEST_FILE >> 20} MB")
    model = _model_class()()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise DamagedFile(f"{path}: not an ONNX file ({error})") from error
    arrays = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == FLOAT and tensor.raw_data:
            sides = tuple(tensor.dims)
            fits = len(sides) <= MAX_SIDES and min(sides, default=0) > 0
            if not fits or 4 * math.prod(sides) != len(tensor.raw_data):
                raise DamagedFile(f"{path}: {tensor.name}: the values do not have the shape {sides}")
            arrays[tensor.name] = np.frombuffer(tensor.raw_data, "<f4").reshape(sides)
    return arrays


def _model_class() -> Any:
    """Return the message class of a model; unknown fields are skipped when it is parsed."""
    file = descriptor_pb2.FileDescriptorProto(name="arrays_of_onnx.proto", package="arrays", syntax="proto3")
    field_types = descriptor_pb2.FieldDescriptorProto
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = described.field.add(name=name, number=number, label=3 if repeated else 1)
            if kind in MESSAGES:
                field.type, field.type_name = field_types.TYPE_MESSAGE, f".arrays.{kind}"
            else:
                field.type = field_types.Type.Value(f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("arrays.Model"))
