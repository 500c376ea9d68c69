"""Find the outputs of a Keras network that can be cached, and which of them are its taps."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from pipeline.backbones.model import LOADING_ERRORS, reason_of
from pipeline.backbones.table import described
from pipeline.backbones.weights import digest_of_arrays, read_arrays
from pipeline.errors import BadInput
from pipeline.progress import Progress, silent

LARGE, STRIDES = 257, 64  # pixels, from which on as many sizes show every offset of a stride up to 64
ONCE = 1 << 20  # the stride of outputs whose size does not depend on the image's


def describe_file(location: str, progress: Progress = silent) -> dict[str, Any]:
    """Return the facts of a saved model: its outputs, its taps, and fields of Backbone.

    Raises BadInput if safe mode refuses it, or it is no network from RGB images to maps.
    """
    start = f"backbone file:{location}: expected"
    try:
        model = keras.models.load_model(location, compile=False, safe_mode=True)
        network = keras.models.model_from_json(keras.Model(model.inputs, model.outputs).to_json())
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        if [shape[3:] for shape in shapes] != [(3,)] or shapes[0][1] != shapes[0][2]:
            raise BadInput(f"{start} one input of square RGB images (H, H, 3), found {shapes}")
        size = shapes[0][1] or 0
        found = describe(network, [size] if size else range(LARGE, LARGE + STRIDES + 1))
    except LOADING_ERRORS as error:
        raise BadInput(f"{start} a model of Keras's own layers, found: {reason_of(error)}") from None
    if not found["taps"]:
        raise BadInput(f"{start} a convolution, found none")
    row: dict[str, Any] = {"subtract": [0.0] * 3, "flip_channels": False, "config": network.to_json()}
    row |= {"minimum_size": size or 1, "default_size": size}
    facts = {"title": Path(location).name, "row": row, **found}
    backbone = described("", facts)
    row["identity"] = digest_of_arrays(read_arrays(Path(location), backbone), backbone)
    return facts


def describe(network: keras.Model, sizes: Sequence[int]) -> dict[str, Any]:
    """Return the fields of all outputs, the names of the taps, and the first tap that others bypass or "".

    The taps are the outputs before each reduction of size: of those after a convolution, not padded, the
    last through which all paths lead, or the last of all. sizes are consecutive, or the only one accepted.
    """
    operations = network.operations
    nodes = [operation._inbound_nodes for operation in operations]  # there is no public access
    last_use = {
        tensor._keras_history.operation: number
        for number, node in enumerate(itertools.chain.from_iterable(nodes))
        for tensor in node.input_tensors
    }
    cacheable = {operation.name: operation.output for operation in operations if _can_be_cached(operation)}
    several = keras.Model(network.input, cacheable)
    shapes = [several.compute_output_shape((None, size, size, 3)) for size in sizes]
    outputs, taps = list[list[Any]](), dict[int, tuple[str, bool]]()
    called_once = len(operations) == sum(map(len, nodes))  # else the order of operations is not that of calls
    parameters = products = reach = 0
    for number, operation in enumerate(operations):
        is_cut = called_once and reach <= number  # nothing later reads what earlier ones output
        reach = max(reach, last_use.get(operation, number))
        weights = [weight.shape for weight in getattr(operation, "weights", ())]
        by_size = [shape.get(operation.name, ()) for shape in shapes]
        sides = [shape[1] if len(shape) == 4 else 0 for shape in by_size]
        parameters += sum(map(math.prod, weights))
        products += max(1, sides[0] ** 2) * sum(math.prod(shape) for shape in weights if len(shape) > 1)
        if operation.name not in cacheable:
            continue
        stride, offset = _stride(sizes, sides)
        work = round(products / sizes[0] ** 2, 3)
        outputs.append([operation.name, by_size[0][-1], stride, offset, parameters, work])
        deepest, pads = max(taps, default=0), isinstance(operation, keras.layers.ZeroPadding2D)
        is_map = products > 0 and deepest <= stride < ONCE and not pads and (is_cut or sides[0] > 1)
        if is_map and (stride > deepest or is_cut or not taps[stride][1]):
            taps[stride] = operation.name, is_cut
    bypassed = next((name for name, is_cut in taps.values() if not is_cut), "")
    return {"outputs": outputs, "taps": [name for name, _ in taps.values()], "bypassed": bypassed}


def _can_be_cached(operation: Any) -> bool:
    """Return whether a layer, or an operation such as a sum, outputs maps or vectors."""
    if isinstance(operation, keras.layers.InputLayer) or len(operation._inbound_nodes) > 1:
        return False
    return len(getattr(operation.output, "shape", ())) in (2, 4)


def _stride(sizes: Sequence[int], sides: list[int]) -> tuple[int, int]:
    """Return (stride, offset) with side == (size + offset) // stride for all sizes; side 0 is a vector."""
    if sides[0] == 0 or (len(sides) > 1 and sides[0] == sides[-1]):
        return ONCE, max(1, sides[0]) * ONCE
    stride = 1
    while 3 * stride * sides[0] < 2 * sizes[0]:  # the nearest power of two
        stride *= 2
    larger = (size for size, side in zip(sizes, sides, strict=True) if side > sides[0])
    return stride, (sides[0] + 1) * stride - next(larger, sizes[0] + stride)
