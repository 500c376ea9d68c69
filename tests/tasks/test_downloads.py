"""Downloads as users run them: over HTTP on the loopback interface, or from a local file."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_archives import small_members, small_row, write_archive

from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import digest_of_arrays, random_arrays, read_weights
from pipeline.datasets.store import ImageStore
from tasks import DownloadCifar10

LUIGI = ("-m", "luigi", "--module", "tasks")
DEAD_MIRROR = "http://127.0.0.1:9/nothing"
PER_BATCH = 20
SMALL_ARCHIVE = """
from pipeline.download.cifar import ARCHIVES, Archive, Member
ARCHIVES[{name!r}] = {row!r}
"""
OWN_WEIGHTS = """
import dataclasses
from pipeline.backbones.table import WEIGHTS
row = WEIGHTS["vgg16", "imagenet"]
changes = dict(identity={identity!r}, downloads=({checksum!r},), layers="", package=None)
WEIGHTS["vgg16", "imagenet"] = dataclasses.replace(row, **changes)
"""


@pytest.fixture
def extension(tmp_path):
    """Return a function that writes an extension and returns the environment that loads it."""

    def write(text: str) -> dict[str, str]:
        (tmp_path / "small_sources.py").write_text(text)
        return {"HEADSTART_EXTENSIONS": "small_sources", "PYTHONPATH": str(tmp_path), "NO_PROXY": "*"}

    return write


def small_archive(path: Path, name: str = "cifar10") -> str:
    """Write a small archive of a data set; return the extension that makes it the expected one."""
    members = small_members(name, PER_BATCH)
    write_archive(path, name, members)
    return SMALL_ARCHIVE.format(name=name, row=small_row(name, members, PER_BATCH))


def test_cifar10_is_downloaded_from_the_second_mirror_and_prepared(call, served, extension, data_folder):
    folder, url = served
    environment = extension(small_archive(folder / "any-name.tar.gz"))
    urls = f"{DEAD_MIRROR},{url}/any-name.tar.gz"
    done = call(*LUIGI, "PrepareDataset", HEADSTART_CIFAR10_URLS=urls, **environment)
    assert done.returncode == 0, done.stderr
    (prepared,) = (data_folder / "datasets").iterdir()
    store = ImageStore(prepared)
    assert store.counts == {"train": 90, "val": 10, "test": 20}
    assert store.names[0] == "data_batch_1_0.png"
    assert [store.names[row] for row in store.rows("test")] == [f"test_batch_{n}.png" for n in range(20)]
    (raw,) = (data_folder / "raw").glob("cifar10-*")
    manifest = json.loads((raw / "manifest.json").read_text())
    assert manifest["facts"]["came_from"] == f"{url}/any-name.tar.gz"


@pytest.mark.parametrize(
    "place", ["data/raw/cifar-10-python.tar.gz", "keras/datasets/cifar-10-python.tar.gz"]
)
def test_a_local_archive_is_used_instead_of_a_download(call, extension, tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    environment = extension(small_archive(path))
    keras = str(tmp_path / "keras")
    done = call(
        *LUIGI, "DownloadCifar10", HEADSTART_CIFAR10_URLS=DEAD_MIRROR, KERAS_HOME=keras, **environment
    )
    assert done.returncode == 0, done.stderr
    assert path.is_file()


@pytest.mark.parametrize(
    "place",
    [
        "data/raw/cifar-10-batches-py",
        "keras/datasets/cifar-10-batches-py",
        pytest.param("keras/datasets/cifar-10-batches-py-target/cifar-10-batches-py", marks=pytest.mark.slow),
        pytest.param("url/cifar-10-batches-py", marks=pytest.mark.slow),
    ],
)
def test_an_extracted_folder_is_used_like_the_archive(call, extension, tmp_path, data_folder, place):
    environment = extension(small_archive(tmp_path / "small.tar.gz"))
    folder = tmp_path / place
    folder.mkdir(parents=True)
    with tarfile.open(tmp_path / "small.tar.gz") as archive:
        for header in archive:
            (folder / Path(header.name).name).write_bytes(archive.extractfile(header).read())
    urls = folder.as_uri() if place.startswith("url") else DEAD_MIRROR
    places = {"HEADSTART_CIFAR10_URLS": urls, "KERAS_HOME": str(tmp_path / "keras")}
    done = call(*LUIGI, "PrepareDataset", **places, **environment)
    assert done.returncode == 0, done.stderr
    (prepared,) = (data_folder / "datasets").iterdir()
    assert ImageStore(prepared).counts == {"train": 90, "val": 10, "test": 20}
    (raw,) = (data_folder / "raw").glob("cifar10-*")
    assert json.loads((raw / "manifest.json").read_text())["facts"]["came_from"] == str(folder)


def test_an_altered_extracted_folder_is_skipped_with_the_name_of_the_file(call, extension, tmp_path):
    environment = extension(small_archive(tmp_path / "small.tar.gz"))
    folder = tmp_path / "data" / "raw" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    with tarfile.open(tmp_path / "small.tar.gz") as archive:
        for header in archive:
            data = bytearray(archive.extractfile(header).read())
            data[-20] ^= header.name.endswith("data_batch_4")
            (folder / Path(header.name).name).write_bytes(data)
    done = call(*LUIGI, "DownloadCifar10", HEADSTART_CIFAR10_URLS=DEAD_MIRROR, **environment)
    assert done.returncode == 30
    assert "skipping" in done.stderr and "sha256 of data_batch_4 differs" in done.stderr


def test_an_archive_with_one_changed_byte_is_rejected(call, served, extension, data_folder):
    folder, url = served
    environment = extension(small_archive(folder / "good.tar.gz"))
    (folder / "bad.tar.gz").write_bytes(b"")
    small_archive_with_a_flipped_byte(folder / "good.tar.gz", folder / "bad.tar.gz")
    done = call(*LUIGI, "DownloadCifar10", HEADSTART_CIFAR10_URLS=f"{url}/bad.tar.gz", **environment)
    assert done.returncode == 30
    assert "data_batch_3" in done.stderr
    assert not list((data_folder / "raw").glob("cifar10-*/cifar-10-python.tar.gz"))


def small_archive_with_a_flipped_byte(source: Path, target: Path) -> None:
    """Copy an archive with one pixel of the third batch changed."""
    with tarfile.open(source) as good, tarfile.open(target, "w:gz") as bad:
        for header in good:
            data = bytearray(good.extractfile(header).read())
            if header.name.endswith("data_batch_3"):
                data[len(data) // 2] ^= 1
            bad.addfile(header, io.BytesIO(bytes(data)))


@pytest.mark.slow
def test_cifar100_is_downloaded_and_prepared_with_its_fine_labels_and_its_own_test_split(
    call, served, extension, data_folder
):
    folder, url = served
    environment = extension(small_archive(folder / "any-name.tar.gz", "cifar100"))
    urls = f"{DEAD_MIRROR},{url}/any-name.tar.gz"
    done = call(
        *LUIGI, "PrepareDataset", "--dataset", "cifar100", HEADSTART_CIFAR100_URLS=urls, **environment
    )
    assert done.returncode == 0, done.stderr
    (prepared,) = (data_folder / "datasets").iterdir()
    store = ImageStore(prepared)
    assert store.row.title == "CIFAR-100"
    assert store.class_names == [f"class {number}" for number in range(100)]
    assert store.labels.tolist() == [*range(100), *range(20)]
    assert store.names == [f"train_{n}.png" for n in range(100)] + [f"test_{n}.png" for n in range(20)]
    assert store.rows("test").tolist() == list(range(100, 120))
    assert store.counts == {"train": 90, "val": 10, "test": 20}
    (raw,) = (data_folder / "raw").glob("cifar100-*")
    manifest = json.loads((raw / "manifest.json").read_text())
    assert manifest["facts"]["came_from"] == f"{url}/any-name.tar.gz"
    assert [*manifest["files"]] == ["cifar-100-python.tar.gz"]


def test_a_cifar100_archive_with_another_digest_is_refused_and_the_advice_is_for_cifar100(
    call, served, extension, data_folder
):
    folder, url = served
    digest = hashlib.md5(small_members("cifar100", PER_BATCH)["test"]).hexdigest()
    text = small_archive(folder / "small.tar.gz", "cifar100").replace(digest, "0" * 32)
    urls = f"{url}/small.tar.gz"
    done = call(*LUIGI, "DownloadCifar100", HEADSTART_CIFAR100_URLS=urls, **extension(text))
    assert done.returncode == 30
    reason = f"{urls}: md5 of test differs: expected {'0' * 32}, found {digest}"
    advice = (
        "HEADSTART_CIFAR100_URLS (http, https or file:// URLs, separated by commas) or with [cifar100] urls"
    )
    assert reason in done.stderr and advice in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((data_folder / "raw").glob("cifar100-*/*.tar.gz"))


def test_the_archive_of_cifar10_keeps_its_key():
    assert DownloadCifar10().folder.name == "cifar10-dba8d1f7b2b9"


def test_imagenet_weights_are_downloaded_and_stored_in_the_projects_layout(
    call, served, extension, data_folder
):
    folder, url = served
    arrays = random_arrays(BACKBONES["vgg16"], seed=5)
    with h5py.File(folder / "weights.h5", "w") as file:
        for layer, (kernel, bias) in arrays.items():
            file[f"{layer}/{layer}_W_1:0"] = kernel
            file[f"{layer}/{layer}_b_1:0"] = bias
    checksum = f"md5:{hashlib.md5((folder / 'weights.h5').read_bytes()).hexdigest()}"
    identity = digest_of_arrays(arrays, BACKBONES["vgg16"])
    environment = extension(OWN_WEIGHTS.format(identity=identity, checksum="md5:0"))
    wrong = call(*LUIGI, "DownloadWeights", HEADSTART_WEIGHTS_URLS=f"{url}/weights.h5", **environment)
    assert wrong.returncode == 30
    assert f"expected md5:0, found {checksum}" in wrong.stderr
    environment = extension(OWN_WEIGHTS.format(identity=identity, checksum=checksum))
    done = call(*LUIGI, "DownloadWeights", HEADSTART_WEIGHTS_URLS=f"{url}/weights.h5", **environment)
    assert done.returncode == 0, done.stderr
    (weights,) = (data_folder / "raw" / "weights").glob("vgg16-imagenet-*")
    stored = read_weights(weights)
    assert all(np.array_equal(stored[layer][0], arrays[layer][0]) for layer in arrays)
