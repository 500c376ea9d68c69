"""Write pipeline/backbones/applications.json again, from the installed Keras; all networks, or those named:

python tests/backbones/write_applications.py [NAME ...]
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import keras
import numpy as np

from pipeline.backbones import table
from pipeline.backbones.describe import LARGE, STRIDES, describe

TARGET = Path(table.__file__).with_name("applications.json")
UTILS, FILES = "keras.src.applications.imagenet_utils", "keras.src.utils.file_utils"


def constructors() -> dict[str, Any]:
    """Return the constructors of keras.applications by name, except those in BACKBONES."""
    public = {name: item for name, item in vars(keras.applications).items() if inspect.isfunction(item)}
    return {name: item for name, item in public.items() if name.lower() not in table.BACKBONES}


def facts_of(name: str) -> dict[str, Any]:
    """Return what applications.json holds of a network; its weights are not downloaded."""
    sizes: dict[str, Any] = {}
    file: dict[str, Any] = {}

    def obtain_input_shape(input_shape: Any, **settings: Any) -> Any:
        sizes.update(settings)
        return (LARGE, LARGE, 3)

    def get_file(fname: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        file.update(file=fname, url=origin, digest=file_hash)
        return fname

    constructor = constructors()[name]
    keras.utils.clear_session()  # numbers layers without a name from the first
    with (
        patch(f"{UTILS}.obtain_input_shape", obtain_input_shape),
        patch(f"{FILES}.get_file", get_file),
        patch("keras.Model.load_weights", lambda *_, **__: None),
    ):
        network = constructor(include_top=False, weights="imagenet", input_shape=(LARGE, LARGE, 3))
    if not file["digest"]:
        return {}
    algorithm = "sha256" if len(file["digest"]) == 64 else "md5"
    if name.startswith("NASNet"):  # its crops fit this size alone
        found = describe(network, [LARGE])
        for output in found["outputs"]:  # a convolution that rounds down, then paddings that round up
            output[3] = output[2] - 3
    else:  # odd sides chose its paddings, which fit even ones as well
        text = re.sub(r"\[null, \d+, \d+, (\d+)\]", r"[null, null, null, \1]", network.to_json())
        network = keras.models.model_from_json(text)
        found = describe(network, range(LARGE, LARGE + STRIDES + 1))
    facts = {
        "weights": [[file["file"], file["url"], f"{algorithm}:{file['digest']}"]],
        "outputs": [output for output in found["outputs"] if output[0] in found["taps"]],
        "taps": [],
        "bypassed": found["bypassed"],
        "row": {
            "application": name,
            **preprocessing_of(constructor),
            "minimum_size": sizes.get("min_size", 32),
            "default_size": sizes.get("default_size", 224),
        },
    }
    layers = network.layers
    after = [two.scale for one, two in zip(layers, layers[1:], strict=False) if is_rescaled(one, two)]
    return {**facts, "rescaling": {"normalization": after[0]}} if after else facts


def is_rescaled(one: Any, two: Any) -> bool:
    """Return whether a layer that multiplies follows one that normalizes with stored statistics."""
    statistics = isinstance(one, keras.layers.Normalization) and one.weights
    return bool(statistics) and isinstance(two, keras.layers.Rescaling)


def preprocessing_of(constructor: Any) -> dict[str, Any]:
    """Return a network's preprocessing, from what it does to a black and to a red pixel."""
    module = inspect.getmodule(inspect.unwrap(constructor))
    colors = np.array([(0, 0, 0), (255, 255, 255), (255, 0, 0)], np.float64).reshape(3, 1, 1, 3)
    black, white, red = (module.preprocess_input(color[None]).ravel() for color in colors)
    flipped = bool(red[0] == black[0])
    order = slice(None, None, -1 if flipped else 1)
    divide = (255 / (white - black))[order]
    subtract = (0.0 - black[order] * divide).round(6).tolist()
    return {"subtract": subtract, "divide": divide.round(6).tolist(), "flip_channels": flipped}


def main(names: list[str]) -> None:
    known = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {}
    for name in names or constructors():
        known[name] = facts_of(name)
        lines = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
        TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
