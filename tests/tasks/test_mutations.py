"""No change of data, weights, settings or files is answered with features of before the change."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import luigi
import numpy as np
import pytest
from PIL import Image
from small_graphs import ROOT, link_weights
from trees import only

from pipeline.backbones import algorithms, table
from pipeline.backbones.weights import WEIGHTS_FILE, obtain_weights, random_arrays
from pipeline.datasets import folders
from pipeline.datasets.store import IMAGES_FILE, ImageStore, prepare
from pipeline.errors import DamagedFile
from pipeline.features import sections
from pipeline.features.extract import extract
from pipeline.features.sections import missing_sections, published_sections
from pipeline.features.store import FeatureStore
from pipeline.storage import hdf5
from pipeline.storage.publishing import read_manifest
from tasks import DownloadWeights, ExtractFeatures, TrainHead

ANOTHER_KEY, REFUSED, HIT = "another key", "refused", "hit"
CACHED = {"layers": "block1_pool,block2_pool", "image_size": 40, "input_size": 32, "precision": "float32"}
RANDOM, RANDOM_FILE = "random", "weights/own.h5"  # two caches: of weights by seed, and of a file


class Place:
    """Pictures, a file of weights and a data folder with their features, which a row of the table changes.

    features (N, D) float32 are those of the last hit.
    """

    features: np.ndarray

    def __init__(self, root: Path, patch: pytest.MonkeyPatch):
        self.root, self.patch, self.options = root, patch, {**CACHED, "weights": RANDOM}
        self.pictures, self.data = root / "pictures", root / "data"

    @property
    def task(self) -> ExtractFeatures:
        """The extraction of these options, planned as in a new process."""
        folders._scan.cache_clear()
        luigi.task_register.Register.clear_instance_cache()
        self.patch.setenv("HEADSTART_DATA_DIR", str(self.data))
        weights = self.options["weights"]
        weights = str(self.root / weights) if "/" in weights else weights
        return ExtractFeatures(**{**self.options, "dataset": f"folder:{self.pictures}", "weights": weights})

    @property
    def section(self) -> Path:
        """The folder of the cached features."""
        return only(self.task.folder, "*/manifest.json").parent

    @property
    def picture(self) -> Path:
        """A picture."""
        return self.pictures / "dark" / "00.png"

    def outcome(self) -> str:
        """Return what a request for the features meets; only HIT answers it with stored features.

        The images are read as well, as by a training, and the weights are verified, as by an extraction.
        """
        task = self.task
        request = task.fingerprint
        missing = missing_sections(task.folder, request)
        if not missing:
            try:
                assert len(ImageStore(task.prepared.folder).images)
                read_manifest(task.clone(DownloadWeights).folder).verified(WEIGHTS_FILE)
                self.features = FeatureStore(task.folder).load(request["layers"], request["views"][0])
            except DamagedFile:
                return REFUSED
            return HIT
        ignored = len([*task.folder.glob("*/manifest.json")]) > len(published_sections(task.folder))
        return REFUSED if ignored or any(one.folder.exists() for one in missing) else ANOTHER_KEY


def make(root: Path) -> None:
    """Write 24 pictures in two classes, a file of weights, and the features of both weights."""
    draws = np.random.default_rng(0)
    for number in range(24):
        path = root / "pictures" / ("bright" if number % 2 else "dark") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 100, (48, 44, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path, compress_level=0)
    (root / "weights").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        place = Place(root, patch)
        write_weights(root / RANDOM_FILE, 1)
        for place.options["weights"] in (RANDOM, RANDOM_FILE):
            task = place.task
            prepare(task.prepared.fingerprint, str(place.pictures), str(task.prepared.folder))
            weights = task.clone(DownloadWeights)
            places = (weights.choice.location, str(weights.folder), str(root), [])
            obtain_weights(weights.fingerprint, *places)
            source = (str(task.prepared.folder), str(weights.folder), str(task.folder))
            extract(task.fingerprint, *source)


def write_weights(path: Path, seed: int, *, names: tuple[str, str] = ("kernel", "bias")) -> None:
    with hdf5.created(path) as file:
        for layer, arrays in random_arrays(table.BACKBONES["vgg16"], seed).items():
            group = hdf5.create_group(file, layer)
            for name, values in zip(names, arrays, strict=True):
                hdf5.write_array(group, name, values)


@pytest.fixture(scope="session")
def made(made_once) -> Path:
    return made_once("mutations", make)


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Place:
    """A copy that a row may change; weights are links until they are changed."""
    monkeypatch.setattr(folders, "RECENT_NS", 0)  # the index trusts also files that were just written
    copy = shutil.copytree(made, tmp_path / "copy", copy_function=link_large)
    return Place(copy, monkeypatch)


def link_large(source: str, target: str) -> None:
    (os.link if source.endswith("own.h5") else link_weights)(source, target)


def option(**changes: object) -> Callable[[Place], None]:
    """Return a change of options of the extraction."""
    return lambda place: place.options.update(changes)


def constant(owner: object, name: str, value: object) -> Callable[[Place], None]:
    """Return a change of the project's own code."""
    return lambda place: place.patch.setattr(owner, name, value)


def item(owner: dict, name: object, value: object) -> Callable[[Place], None]:
    return lambda place: place.patch.setitem(owner, name, value)


def change_pixel(place: Place) -> None:
    pixels = np.asarray(Image.open(place.picture)).copy()
    pixels[20, 20] ^= 1
    Image.fromarray(pixels).save(place.picture, compress_level=0)


def change_pixel_in_secret(place: Place) -> None:
    before = place.picture.stat()
    change_pixel(place)
    os.utime(place.picture, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = place.picture.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def change_file_only(place: Place) -> None:
    before = np.asarray(Image.open(place.picture))
    Image.open(place.picture).save(place.picture, compress_level=9)
    assert (np.asarray(Image.open(place.picture)) == before).all()


def write_pictures_again(place: Place) -> None:
    old = place.pictures.rename(place.root / "old")
    for path in sorted(old.rglob("*.png"), reverse=True):
        target = place.pictures / path.relative_to(old)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def sort_into_splits(place: Place) -> None:
    for number, path in enumerate(sorted(place.pictures.rglob("*.png"))):
        split = ("train", "val", "test", "train")[number // 2 % 4]
        target = place.pictures / split / path.relative_to(place.pictures)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for name in ("bright", "dark"):
        (place.pictures / name).rmdir()


def in_prepared(name: str, change: Callable[[h5py.File], None]) -> Callable[[Place], None]:
    """Return a change of a column of the prepared data set that keeps the size of the file."""

    def mutate(place: Place) -> None:
        path = place.task.prepared.folder / "dataset.h5"
        size = path.stat().st_size
        with h5py.File(path, "r+") as file:
            file[name][:] = change(file[name][:])
        assert path.stat().st_size == size

    return mutate


def change_prepared_pixel(place: Place) -> None:
    flip_byte(place.task.prepared.folder / IMAGES_FILE)


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def own_weights(change: Callable[[Path], None] = lambda path: None) -> Callable[[Place], None]:
    """Return a change of the user's file of weights, in place, with its size and time of modification."""

    def mutate(place: Place) -> None:
        place.options["weights"] = RANDOM_FILE
        assert place.outcome() == HIT
        path = place.root / RANDOM_FILE
        before, content = path.stat(), path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        change(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return mutate


def change_one_value(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["block3_conv2/kernel"][1, 1, 7, 7] += 1e-3


def repack_weights(path: Path) -> None:
    write_weights(path, 1, names=("kernel:0", "bias:0"))


def change_stored_weights(place: Place) -> None:
    path = place.task.clone(DownloadWeights).folder / WEIGHTS_FILE
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    change_one_value(path)


def stop_before_manifest(place: Place) -> None:
    (place.section / "manifest.json").unlink()


def stop_within_shard(place: Place) -> None:
    section = place.section
    stop_before_manifest(place)
    shard = section / "shard-00000.h5"
    (section / ".shard-00000.scratch-host_1-0123abcd.h5").write_bytes(shard.read_bytes()[:5000])
    shard.unlink()
    shard.with_suffix(".json").unlink()


def truncate_shard(place: Place) -> None:
    shard = place.section / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-1])


def move_data(place: Place) -> None:
    place.data = place.data.rename(place.root / "moved")


def copy_data(place: Place) -> None:
    place.data = shutil.copytree(place.data, place.root / "copied", copy_function=link_weights)


def copy_cache_to_another(place: Place) -> None:
    source = place.task.folder
    place.options["storage"] = "float16"
    assert place.outcome() == ANOTHER_KEY
    shutil.copytree(source, place.task.folder)


def copy_section_to_another(place: Place) -> None:
    source = place.section
    place.options["views"] = "hflip"
    (section,) = missing_sections(place.task.folder, place.task.fingerprint)
    shutil.copytree(source, section.folder)


VGG16 = table.BACKBONES["vgg16"]
ROWS: list[tuple[str, Callable[[Place], None], str]] = [
    ("one pixel of an image", change_pixel, ANOTHER_KEY),
    ("one pixel, with the file's size and time of modification kept", change_pixel_in_secret, ANOTHER_KEY),
    ("the bytes of an image's file, with its pixels kept", change_file_only, ANOTHER_KEY),
    ("an image removed", lambda place: place.picture.unlink(), ANOTHER_KEY),
    (
        "a label",
        lambda place: place.picture.rename(place.pictures / "bright" / place.picture.name),
        ANOTHER_KEY,
    ),
    ("a name", lambda place: place.picture.rename(place.picture.with_name("99.png")), ANOTHER_KEY),
    ("the order in which the files were written", write_pictures_again, HIT),
    ("the seed of the split", option(split_seed=1), ANOTHER_KEY),
    ("the split, by folders", sort_into_splits, ANOTHER_KEY),
    ("the image size of the prepared data", option(image_size=41), ANOTHER_KEY),
    ("the resampler of the pictures", constant(folders, "FITTING", "bicubic"), ANOTHER_KEY),
    ("one pixel of the prepared data", change_prepared_pixel, REFUSED),
    ("the labels of the prepared data", in_prepared("labels", lambda labels: 1 - labels), REFUSED),
    ("the order of the prepared data", in_prepared("index", lambda index: index[::-1]), REFUSED),
    ("one value of the weights' file", own_weights(change_one_value), ANOTHER_KEY),
    ("the layout of the weights' file, with its values kept", own_weights(repack_weights), HIT),
    ("the seed of random weights", option(weights="random:2"), ANOTHER_KEY),
    ("one value of the stored weights", change_stored_weights, REFUSED),
    ("the backbone", option(backbone="vgg19"), ANOTHER_KEY),
    (
        "the preprocessing",
        item(table.BACKBONES, "vgg16", dataclasses.replace(VGG16, flip_channels=False)),
        ANOTHER_KEY,
    ),
    ("another tap", option(layers="block1_pool,block3_pool"), ANOTHER_KEY),
    ("fewer taps", option(layers="block2_pool"), HIT),
    ("the pooling", option(pooling="none"), ANOTHER_KEY),
    ("the view", option(views="hflip"), ANOTHER_KEY),
    ("the input size", option(input_size=33), ANOTHER_KEY),
    ("the resampler of the network's input", constant(sections, "RESAMPLING", "bicubic"), ANOTHER_KEY),
    ("the precision", option(precision="bfloat16"), ANOTHER_KEY),
    ("the storage", option(storage="float16"), ANOTHER_KEY),
    ("the engine", option(engine="openvino"), ANOTHER_KEY),
    ("the algorithm of the convolutions", item(algorithms.WINOGRAD_CHANNELS, 4, 64), ANOTHER_KEY),
    ("the versions of libraries", constant(importlib.metadata, "version", lambda name: "9"), HIT),
    ("a kill before the manifest is written", stop_before_manifest, REFUSED),
    ("a kill while a shard is written", stop_within_shard, REFUSED),
    ("a shard without its last byte", truncate_shard, REFUSED),
    ("one bit of a shard", lambda place: flip_byte(place.section / "shard-00000.h5"), REFUSED),
    ("one bit of a manifest", lambda place: flip_byte(place.section / "manifest.json"), REFUSED),
    ("the data folder moved", move_data, HIT),
    ("the data folder copied", copy_data, HIT),
    ("a cache copied to the folder of another", copy_cache_to_another, REFUSED),
    ("a section copied to the folder of another", copy_section_to_another, REFUSED),
]


@pytest.mark.parametrize(("mutate", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_fault_16_a_change_is_never_answered_with_stale_features(place, mutate, expected):
    assert place.outcome() == HIT
    mutate(place)
    before = place.features
    assert place.outcome() == expected
    if expected == HIT:
        np.testing.assert_array_equal(place.features, before[:, -place.features.shape[1] :])


def test_the_key_of_a_run_depends_on_that_of_its_images_and_features(place):
    options = {"weights": RANDOM, "layers": ("block1_pool",), "image_size": 40, "precision": "float32"}
    run = TrainHead(dataset=f"folder:{place.pictures}", **options)
    assert run.fingerprint["dataset"] == run.prepared.fingerprint
    assert run.fingerprint["features"] == run.features_task.fingerprint


def test_the_table_of_the_guide_is_the_table_that_is_tested():
    text = (ROOT / "docs" / "cache.md").read_text(encoding="utf-8")
    section = text.partition("## What a change leads to")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", section, flags=re.MULTILINE)[1:]
    assert rows == [(change, outcome) for change, _, outcome in ROWS]
