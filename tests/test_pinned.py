"""Keys and bytes that must not change by accident: a change here makes every existing cache stale."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.backbones.table import BACKBONES, choose_weights
from pipeline.backbones.weights import publish_weights
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import prepare
from pipeline.features.extract import extract
from pipeline.features.sections import cache_fingerprint
from pipeline.features.store import FeatureStore
from pipeline.storage.fingerprint import key_of

CIFAR10 = dataset_fingerprint("cifar10", subset=0, split_seed=0)
SHARD_SHA256 = "ccd17540c201a1a0f1681c1ab34e7299d488f511b3e7f6a4f6b148d7515e2081"
DIGITS = dataset_fingerprint("digits", subset=100, split_seed=0)


def weights_key(text: str, backbone: str = "vgg16") -> str:
    choice = choose_weights(text, backbone)
    return key_of({"backbone": backbone, "weights": choice.identity})


def cache_key(dataset: dict, weights: str, backbone: str = "vgg16", **changes) -> str:
    settings = {"precision": "float32", **changes}
    choice = choose_weights(weights, backbone)
    return key_of(cache_fingerprint(dataset, backbone=backbone, weights=choice, **settings))


@pytest.mark.parametrize(
    ("fingerprint", "key"),
    [
        (CIFAR10, "c5266cff93cb"),
        (dataset_fingerprint("cifar10", subset=12_000, split_seed=1), "4c230cd717c1"),
        (dataset_fingerprint("cifar100", subset=0, split_seed=0), "a8a86b533100"),
        (DIGITS, "155b05fec1f7"),
    ],
)
def test_a_prepared_data_set_keeps_its_key(fingerprint, key):
    assert key_of(fingerprint) == key


@pytest.mark.parametrize(
    ("text", "backbone", "key"),
    [
        ("imagenet", "vgg16", "765e2f4d1136"),
        ("imagenet", "vgg19", "8cc1c291980b"),
        ("imagenet", "resnet50", "3a7574b944bb"),
        ("random", "vgg16", "c03587dc92c9"),
        ("random:7", "resnet50", "7ea8f48062c7"),
    ],
)
def test_weights_keep_their_key(text, backbone, key):
    assert weights_key(text, backbone) == key


@pytest.mark.parametrize(
    ("arguments", "changes", "key"),
    [
        ((CIFAR10, "imagenet"), {}, "e3c835a0efe4"),
        ((CIFAR10, "imagenet"), {"precision": "bfloat16", "input_size": 128}, "180b168e44da"),
        ((CIFAR10, "random:7"), {"pooling": "none", "storage": "float16"}, "a38fffab1191"),
        ((DIGITS, "random", "resnet50"), {}, "9f1f10b477fb"),
    ],
)
def test_a_cache_keeps_its_key(arguments, changes, key):
    assert cache_key(*arguments, **changes) == key


def test_a_float32_shard_keeps_its_bytes(tmp_path):
    """Each kernel has a single nonzero value, and direct convolutions no transforms: additions are exact."""
    row, random = BACKBONES["vgg16"], choose_weights("random", "vgg16")
    publish_weights(tmp_path / "weights", {"backbone": "vgg16"}, copying_weights(row), {})
    prepare(DIGITS, None, str(tmp_path / "digits"))
    base = cache_fingerprint(DIGITS, backbone="vgg16", weights=random, precision="float32", pooling="none")
    extract(
        {**base, "layers": ["block1_pool"], "views": ["hflip"]},
        folder=str(tmp_path / "cache"),
        dataset=str(tmp_path / "digits"),
        weights=str(tmp_path / "weights"),
    )
    assert FeatureStore(tmp_path / "cache").load(["block1_pool"], "hflip").any()
    shards = sorted((tmp_path / "cache").glob("hflip-*/shard-*.h5"))
    assert [digest(path) for path in shards] == [SHARD_SHA256]


def copying_weights(row) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return weights whose filter i copies channel i; the first layer of a block shifts it by one pixel."""
    arrays = {}
    for layer, weights in row.shapes().items():
        kernel, bias = (np.zeros(shape, np.float32) for shape in weights.values())
        filters = np.arange(kernel.shape[3])
        kernel[0 if layer.endswith("_conv1") else 1, 1, filters % kernel.shape[2], filters] = 1
        arrays[layer] = kernel, bias
    return arrays


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
