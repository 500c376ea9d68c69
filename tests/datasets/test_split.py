"""The split is stratified, disjoint, and the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.datasets.split import apportion, split_images, subset_images
from pipeline.datasets.table import SPLITS, TEST, TRAIN, VAL

FRACTIONS = {"val_fraction": 0.125, "test_fraction": 0.2}

DIGEST_OF_A_SPLIT = """
import hashlib
import numpy as np
from pipeline.datasets.split import split_images, subset_images
labels = np.arange(500) * 7 % 10
split = split_images(labels, None, val_fraction=0.125, test_fraction=0.2, seed=3)
subset = subset_images(labels, split, count=120, seed=3)
print(hashlib.sha256(split.tobytes() + subset.tobytes()).hexdigest())
"""


def random_labels(seed: int) -> np.ndarray:
    """Return labels of 1 to 12 classes whose sizes differ by up to two orders of magnitude."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(1, 13)
    return rng.choice(classes, size=rng.integers(50, 600), p=rng.dirichlet(np.full(classes, 0.7)))


def within_one_image(part: np.ndarray, whole: np.ndarray) -> bool:
    """Return whether part has the class proportions of whole, to within one image."""
    sizes = np.bincount(whole)
    expected = sizes * (len(part) / len(whole))
    return bool((abs(np.bincount(part, minlength=len(sizes)) - expected) < 1).all())


def test_quotas_sum_exactly_and_are_off_by_less_than_one():
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(1, 1000, size=rng.integers(1, 30))
        count = int(rng.integers(0, sizes.sum() + 1))
        quotas = apportion(sizes, count)
        assert quotas.sum() == count
        assert (quotas <= sizes).all()
        assert (abs(quotas - sizes * (count / sizes.sum())) < 1).all()


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([10, 10], 10, [5, 5]),
        ([6, 3, 1], 5, [3, 2, 0]),  # 3, 1.5, 0.5: the first of equal remainders
        ([5, 3, 1], 4, [2, 1, 1]),  # 2.22, 1.33, 0.44
        ([7], 7, [7]),
    ],
)
def test_apportion_uses_the_largest_remainder(sizes, count, expected):
    assert apportion(np.array(sizes), count).tolist() == expected


@pytest.mark.parametrize("seed", range(40))
def test_every_split_is_stratified_to_within_one_image(seed):
    labels = random_labels(seed)
    split = split_images(labels, None, **FRACTIONS, seed=seed)
    assert (split.shape, split.dtype) == (labels.shape, np.uint8)
    test, rest = labels[split == TEST], labels[split != TEST]
    assert len(test) == round(len(labels) * 0.2)
    assert len(labels[split == VAL]) == round(len(rest) * 0.125)
    assert within_one_image(test, labels)
    assert within_one_image(labels[split == VAL], rest)


@pytest.mark.filterwarnings("error")
def test_no_image_is_val_if_all_are_test():
    split = split_images(random_labels(1), None, val_fraction=0.5, test_fraction=1.0, seed=0)
    assert (split == TEST).all()


def test_every_image_is_in_exactly_one_split():
    split = split_images(random_labels(1), None, **FRACTIONS, seed=0)
    members = [set(np.flatnonzero(split == code)) for code in SPLITS.values()]
    assert sum(map(len, members)) == len(set.union(*members)) == len(split)


def test_official_test_images_stay_test():
    labels = np.arange(1000) % 10
    is_test = np.arange(1000) >= 800
    for seed in range(5):
        split = split_images(labels, is_test, val_fraction=0.1, test_fraction=0.5, seed=seed)
        assert ((split == TEST) == is_test).all()
        assert np.bincount(labels[split == VAL]).tolist() == [8] * 10


def test_another_seed_gives_another_split():
    labels = np.arange(500) % 10
    first, second = (split_images(labels, None, **FRACTIONS, seed=seed) for seed in (0, 1))
    assert (first != second).any()
    assert np.bincount(first).tolist() == np.bincount(second).tolist()


def test_arguments_are_not_changed():
    labels, is_test = np.arange(100) % 10, np.arange(100) >= 80
    split_images(labels, is_test, val_fraction=0.1, test_fraction=0.0, seed=0)
    assert labels.tolist() == (np.arange(100) % 10).tolist()
    assert is_test.sum() == 20


def test_split_is_the_same_in_another_process_under_any_hash_seed():
    labels = np.arange(500) * 7 % 10
    split = split_images(labels, None, **FRACTIONS, seed=3)
    subset = subset_images(labels, split, count=120, seed=3)
    here = hashlib.sha256(split.tobytes() + subset.tobytes()).hexdigest()
    for hash_seed in ("0", "4711"):
        command = [sys.executable, "-c", DIGEST_OF_A_SPLIT]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert there.stdout.strip() == here


def test_which_images_are_val_follows_from_the_documented_hash():
    """Computed by hand: in a single class, the images with the smallest sha256 of seed, purpose, position."""
    split = split_images(np.zeros(40, int), np.zeros(40, bool), val_fraction=0.1, test_fraction=0.0, seed=5)
    ranked = sorted(range(40), key=lambda position: hashlib.sha256(f"5/val/{position}".encode()).digest())
    assert np.flatnonzero(split == VAL).tolist() == sorted(ranked[:4])
    assert (split[ranked[4:]] == TRAIN).all()


@pytest.mark.parametrize("seed", range(8))
def test_smaller_subset_is_part_of_every_larger_one(seed):
    labels = random_labels(seed)
    split = split_images(labels, None, **FRACTIONS, seed=seed)
    smaller = set()
    for count in range(1, len(labels) + 1, 3):
        subset = subset_images(labels, split, count=count, seed=seed)
        assert len(subset) == count
        assert (np.diff(subset) > 0).all()
        assert smaller <= set(subset)
        smaller = set(subset)


@pytest.mark.parametrize("count", [100, 250, 1000, 3000])
def test_subset_keeps_the_proportions_of_classes_and_splits(count):
    labels, is_test = np.arange(6000) % 10, np.arange(6000) >= 5000
    split = split_images(labels, is_test, val_fraction=0.1, test_fraction=0.0, seed=0)
    subset = subset_images(labels, split, count=count, seed=0)
    for code in SPLITS.values():
        part = labels[subset][split[subset] == code]
        expected = (split == code).sum() * count / 6000 / 10
        assert (abs(np.bincount(part, minlength=10) - expected) <= 1).all()
