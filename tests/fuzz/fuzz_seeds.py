"""Small valid files of every kind that the project reads; fuzzing starts from them."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
from small_onnx import onnx_file

from pipeline.backbones.table import BACKBONES, PIXELS, Step, backbone_of, choose_weights
from pipeline.backbones.weights import random_arrays
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.download.archive import PIXELS_PER_ROW
from pipeline.download.cifar import ARCHIVES
from pipeline.features.sections import Section, cache_fingerprint
from pipeline.runs.result import HISTORY_COLUMNS

PER_BATCH = 2
ROWS = 3
CLASS_NAMES = ["cat", "dög"]
DATASET = dataset_fingerprint("digits", subset=100, split_seed=0)
TINY = backbone_of(
    "Tiny",
    [
        Step("conv", "block1_conv1", (PIXELS,), 2, 3, side=3, padding=1),
        Step("pool", "block1_pool", ("block1_conv1",), 2, side=2, stride=2, relu=False),
        Step("conv", "block2_conv1", ("block1_pool",), 4, 2, side=3, padding=1),
        Step("pool", "block2_pool", ("block2_conv1",), 4, side=2, stride=2, relu=False),
    ],
    ["block1_pool", "block2_pool"],
    application="VGG16",
    chain=True,
    subtract=(0.0, 0.0, 0.0),
    flip_channels=False,
)


def cifar10_members() -> dict[str, bytes]:
    """Return the files of a CIFAR-10 with twelve images by name."""
    *batches, meta = (member.name for member in ARCHIVES["cifar10"].members)
    class_names = {b"label_names": [f"class {number}".encode() for number in range(10)]}
    members = {meta: pickle.dumps(class_names, protocol=3)}
    for number, name in enumerate(batches):
        names = [f"{number}_{position}.png".encode() for position in range(PER_BATCH)]
        rows = np.full((PER_BATCH, PIXELS_PER_ROW), number, np.uint8)
        content = {b"data": rows, b"labels": [number, 9], b"filenames": names}
        members[name] = pickle.dumps(content, protocol=3)
    return members


def archive_of(members: dict[str, bytes], mode: str, layout: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of members, compressed according to mode, with an extended header."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode, format=layout) as archive:
        for name, data in {"readme.html": b"<html>", **members}.items():
            header = tarfile.TarInfo(f"{ARCHIVES['cifar10'].folder}/{name}")
            header.size, header.mtime = len(data), 1234567890.5
            archive.addfile(header, io.BytesIO(data))
    return memory.getvalue()


def pickles() -> list[bytes]:
    """Return pickles of plain data under the supported protocols."""
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    plain = {"labels": [1, 300, 70_000, -1], "names": ["é", None, True], "pair": (1, (2, 3, 4, 5))}
    batch = {b"data": pixels, b"labels": [1, 2, 3], b"filenames": [b"a", b"b" * 300]}
    return [pickle.dumps(plain, protocol=2), pickle.dumps(plain, protocol=3), pickle.dumps(batch, protocol=3)]


def hdf5_files(arrays: dict[str, np.ndarray | list[str]]) -> list[bytes]:
    """Return files with the same datasets: in the project's own format, plain, and compressed."""
    import h5py

    from pipeline.storage import hdf5

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for path, values in arrays.items():
            file[path] = np.array([text.encode() for text in values]) if isinstance(values, list) else values
    compressed = io.BytesIO()
    with h5py.File(compressed, "w") as file:
        for path, values in arrays.items():
            plain = np.array([text.encode() for text in values]) if isinstance(values, list) else values
            file.create_dataset(path, data=plain, chunks=True, compression="gzip", shuffle=True)
    own = _written(lambda path: _write_own(hdf5, path, arrays))
    return [own, memory.getvalue(), compressed.getvalue()]


def _write_own(hdf5, path: Path, arrays: dict) -> None:
    with hdf5.created(path) as file:
        for name, values in arrays.items():
            *parents, last = name.split("/")
            group = file
            for parent in parents:
                group = group[parent] if parent in group else hdf5.create_group(group, parent)
            (hdf5.write_texts if isinstance(values, list) else hdf5.write_array)(group, last, values)


def _written(write) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


def rows() -> dict[str, np.ndarray | list[str]]:
    """Return the columns of three images: one each of train, val and test."""
    columns = {
        "labels": np.array([0, 1, 1]),
        "index": np.arange(ROWS),
        "split": np.arange(ROWS, dtype=np.uint8),
    }
    return {**columns, "names": [f"é{number}.png" for number in range(ROWS)]}


def feature_columns() -> dict[str, np.ndarray | list[str]]:
    """Return the content of a shard with three images."""
    return {**rows(), "features/block1_pool": np.arange(64 * ROWS, dtype=np.float32).reshape(ROWS, 64)}


def feature_section(cache: Path) -> Section:
    """Return the section of that shard."""
    choice = choose_weights("random", "vgg16")
    base = cache_fingerprint(DATASET, backbone="vgg16", weights=choice, precision="float32")
    return Section(cache, base, "identity", ("block1_pool",))


def image_columns() -> dict[str, np.ndarray | list[str]]:
    """Return the content of a prepared data set with three images."""
    return dict(rows())


def prediction_columns() -> dict[str, np.ndarray | list[str]]:
    """Return the predictions of a run on two images, one of val and one of test."""
    columns = {"index": np.arange(2), "labels": np.array([0, 1]), "split": np.array([1, 2], np.uint8)}
    return {**columns, "names": ["a.png", "é.png"], "probabilities": np.eye(2, dtype=np.float32)}


def weights_files() -> list[bytes]:
    """Return a tiny backbone's weights in every layout of HDF5 that is read."""
    arrays = random_arrays(TINY, seed=0)
    layouts = {
        "new": {f"{layer}/{layer}/{name}:0": value for layer, name, value in _named(arrays)},
        "old": {
            f"{layer}/{layer}_{name[0].replace('k', 'W')}_1:0": value for layer, name, value in _named(arrays)
        },
        "full model": {f"model_weights/{layer}/{name}:0": value for layer, name, value in _named(arrays)},
        "double": {f"{layer}/{name}": value.astype(np.float64) for layer, name, value in _named(arrays)},
    }
    return [file for layout in layouts.values() for file in hdf5_files(layout)[1:]]


def onnx_files() -> list[bytes]:
    """Return a tiny backbone's weights as an ONNX file."""
    initializers = {}
    for layer, (kernel, bias) in random_arrays(TINY, seed=0).items():
        initializers[f"model/{layer}_1/convolution/ReadVariableOp:0"] = kernel.transpose(3, 2, 0, 1)
        initializers[f"model/{layer}_1/Squeeze:0"] = bias
    return [onnx_file(initializers)]


def _named(arrays: dict) -> list[tuple[str, str, np.ndarray]]:
    return [
        (layer, name, value)
        for layer, weights in arrays.items()
        for name, value in zip(("kernel", "bias"), weights, strict=True)
    ]


def pictures() -> list[bytes]:
    """Return pictures in every format and in the modes that need special handling."""
    from PIL import Image
    from small_profiles import LINEAR_GRAY, NO_INK, SWAPPED

    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 4), np.uint8)
    colors = Image.fromarray(noise[..., :3])
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation: rotated by 90 degrees
    palette = colors.quantize(8)
    kinds = [
        (colors, {"format": "PNG"}),
        (Image.fromarray(noise), {"format": "PNG", "exif": rotated}),
        (palette, {"format": "PNG", "transparency": 0}),
        (deep, {"format": "PNG"}),
        (colors.convert("1"), {"format": "PNG"}),
        (colors, {"format": "PNG", "save_all": True, "append_images": [colors.rotate(90)]}),
        (colors, {"format": "JPEG", "exif": rotated, "comment": "é"}),
        (colors, {"format": "JPEG", "progressive": True}),
        (colors.convert("CMYK"), {"format": "JPEG"}),
        (colors.convert("L"), {"format": "JPEG"}),
        (
            palette,
            {"format": "GIF", "save_all": True, "append_images": [palette.rotate(90)], "transparency": 1},
        ),
        (colors, {"format": "BMP"}),
        (palette, {"format": "BMP"}),
        (colors, {"format": "WEBP"}),
        (Image.fromarray(noise), {"format": "WEBP", "lossless": True, "exif": rotated}),
        (colors, {"format": "WEBP", "save_all": True, "append_images": [colors.rotate(90)]}),
        (colors, {"format": "TIFF", "save_all": True, "append_images": [colors.rotate(90)]}),
        (colors, {"format": "TIFF", "compression": "tiff_lzw", "exif": rotated, "icc_profile": SWAPPED}),
        (deep, {"format": "TIFF", "compression": "tiff_adobe_deflate", "icc_profile": LINEAR_GRAY}),
        (colors.convert("CMYK"), {"format": "TIFF", "icc_profile": NO_INK}),
        (colors, {"format": "TIFF", "compression": "jpeg"}),
        (colors, {"format": "AVIF", "exif": rotated, "icc_profile": SWAPPED}),
        (Image.fromarray(noise), {"format": "AVIF"}),
    ]
    files = []
    for picture, options in kinds:
        memory = io.BytesIO()
        picture.save(memory, **options)
        files.append(memory.getvalue())
    return files


def recipe() -> dict:
    """Return the recipe of a run on two images."""
    names = {"scheme": "head:linear", "dataset": "digits", "dataset_title": "digits", "weights": "random"}
    counts = {"seed": 0, "n_train": 1, "n_val": 1, "n_test": 1, "epochs": 2, "parameters": 7}
    counts |= {"image_size": 32, "input_size": 32}
    more = {"precision": "float32", "trainable_parameters": 7, "class_names": CLASS_NAMES}
    return {**names, **counts, **more}


def costs() -> dict:
    """Return the costs of a run."""
    return {"train_seconds": 1.5, "extract_seconds": 0, "total_seconds": 2.25, "peak_memory_mb": 812.5}


def history() -> bytes:
    """Return the history of a run of two epochs as CSV."""
    lines = [",".join(HISTORY_COLUMNS), "train,1,2.3,0.1,2.2,0.2,0.001,0.5", "train,2,2.1,0.3,,,1e-4,1.5"]
    return ("\n".join(lines) + "\n").encode()


def as_json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


def register_tiny() -> None:
    """Add the tiny backbone to the table."""
    BACKBONES["tiny"] = TINY
