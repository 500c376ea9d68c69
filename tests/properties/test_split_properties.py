"""The split: exact sizes, proportional classes, no image twice, no dependence on other images."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.split import apportion, split_by_content, split_images, subset_images
from pipeline.datasets.table import SPLITS, TEST, TRAIN, VAL

LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=120).map(np.array)
SHARES = st.sampled_from([0.1, 0.125, 0.2, 0.25])
SEEDS = st.integers(0, 5)


def split_of(labels, seed=0, val=0.1, test=0.2):
    return split_images(labels, None, val_fraction=val, test_fraction=test, seed=seed)


@given(LABELS, SHARES, SHARES, SEEDS)
def test_sizes_are_exact_and_classes_keep_their_shares_within_one_image(labels, val, test, seed):
    split = split_of(labels, seed, val, test)
    assert set(np.unique(split)) <= set(SPLITS.values())
    assert (split == TEST).sum() == round(len(labels) * test)
    rest = split != TEST
    assert (split == VAL).sum() == round(rest.sum() * val)
    for number in np.unique(labels):
        in_class = labels == number
        assert abs((split[in_class] == TEST).sum() - in_class.sum() * (split == TEST).sum() / len(labels)) < 1
        expected = (in_class & rest).sum() * (split == VAL).sum() / max(1, rest.sum())
        assert abs((split[in_class] == VAL).sum() - expected) < 1


@given(LABELS, SEEDS)
def test_the_source_s_own_test_split_is_the_test_split(labels, seed):
    own = np.arange(len(labels)) % 3 == 0
    split = split_images(labels, own, val_fraction=0.2, test_fraction=0.9, seed=seed)
    assert ((split == TEST) == own).all()


@given(LABELS, SEEDS, st.data())
def test_a_smaller_subset_is_contained_in_a_larger_one(labels, seed, data):
    split = split_of(labels, seed)
    small, large = sorted(data.draw(st.lists(st.integers(1, len(labels)), min_size=2, max_size=2)))
    few, many = (subset_images(labels, split, count=count, seed=seed) for count in (small, large))
    assert (len(few), len(many)) == (small, large)
    assert set(few) <= set(many) <= set(range(len(labels)))
    assert (np.diff(many) > 0).all()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12).map(np.array), st.data())
def test_shares_add_up_and_differ_from_the_exact_share_by_less_than_one(sizes, data):
    count = data.draw(st.integers(0, int(sizes.sum())))
    counts = apportion(sizes, count)
    assert counts.sum() == count and (counts >= 0).all()
    assert (np.abs(counts - sizes * count / sizes.sum()) < 1 + 1e-9).all()


CONTENTS = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40).map(
    lambda rows: np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)
)


@given(CONTENTS, CONTENTS, SEEDS)
def test_split_by_content_does_not_depend_on_other_images_or_their_order(one, more, seed):
    def split(content):
        no_split, labels = np.full(len(content), 255, np.uint8), np.zeros(len(content), int)
        options = {"val_fraction": 0.1, "test_fraction": 0.2, "seed": seed}
        result, lent = split_by_content(content, labels, no_split, **options)
        return np.where(lent, TRAIN, result)  # a loan goes back when there are other pictures

    alone = split(one)
    assert (split(np.concatenate([more, one]))[len(more) :] == alone).all()
    assert (split(one[::-1]) == alone[::-1]).all()
    assert (split(np.concatenate([one, one])) == np.concatenate([alone, alone])).all()


@given(CONTENTS, SEEDS, st.data())
def test_a_split_from_the_source_is_kept(content, seed, data):
    parts = st.sampled_from([TRAIN, VAL, TEST])
    own = np.array(data.draw(st.lists(parts, min_size=len(content), max_size=len(content))), np.uint8)
    labels = np.zeros(len(content), int)
    split, _ = split_by_content(content, labels, own, val_fraction=0.1, test_fraction=0.2, seed=seed)
    assert (split[own == TEST] == TEST).all() and (split[own == VAL] == VAL).all()
    if (own == TEST).any():
        assert (split[own == TRAIN] != TEST).all()
