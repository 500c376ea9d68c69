"""Read the arrays of an ONNX file as plain data, without the package onnx."""

import math
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, message_factory, text_format
from google.protobuf.message import DecodeError

from pipeline.errors import DamagedFile

FLOAT = 1  # TensorProto.DataType
LARGEST_FILE = 1 << 30  # bytes
ONNX_START = b"\x08"  # the tag of the first field, the version of the format
MAX_SIDES = 4
# The part of onnx.proto that holds arrays; unknown fields are skipped when a file is parsed.
SCHEMA = """
name: "arrays_of_onnx.proto" package: "arrays" syntax: "proto3"
message_type { name: "Tensor"
  field { name: "dims" number: 1 label: LABEL_REPEATED type: TYPE_INT64 }
  field { name: "data_type" number: 2 type: TYPE_INT32 }
  field { name: "name" number: 8 type: TYPE_STRING }
  field { name: "raw_data" number: 9 type: TYPE_BYTES }
}
message_type { name: "Graph"
  field { name: "initializer" number: 5 type: TYPE_MESSAGE type_name: ".arrays.Tensor" label: LABEL_REPEATED }
}
message_type { name: "Model"
  field { name: "graph" number: 7 type: TYPE_MESSAGE type_name: ".arrays.Graph" }
}
"""


def read_initializers(path: Path) -> dict[str, np.ndarray]:
    """Return the float32 initializers of an ONNX file by name; arrays stored in another way are left out.

    Raises DamagedFile if the file is not ONNX or an array's size does not match its shape.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise DamagedFile(f"{path}: expected an ONNX file of at most {LARGEST_FILE >> 20} MB")
    schema = text_format.Parse(SCHEMA, descriptor_pb2.FileDescriptorProto())
    model = message_factory.GetMessages([schema])["arrays.Model"]()
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
