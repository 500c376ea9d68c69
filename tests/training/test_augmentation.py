"""Augmentation flips and shifts as its seed says, and does nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pipeline.features.passes import show
from pipeline.training.augmentation import augmented, drawn_views
from pipeline.views import variation_views

SIDE = 16


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return 256 copies of an image whose pixels say where they are: (row, column, row + column)."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    one = np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)
    return np.broadcast_to(one, (256, *one.shape)).copy()


def varied(images: np.ndarray, *, seed: tuple[int, int] = (3, 8), flip: bool, shift: int) -> np.ndarray:
    return augmented(tf.constant(images), tf.constant(seed), flip=flip, shift=shift).numpy()


def offsets(images: np.ndarray, shifted: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Return by how far each image moved, found by trying all; fail where none up to most fits."""
    found = []
    for before, after in zip(images, shifted, strict=True):
        padded = np.pad(before, ((most, most), (most, most), (0, 0)), mode="reflect")
        fits = [
            (row - most, column - most)
            for row in range(2 * most + 1)
            for column in range(2 * most + 1)
            if np.array_equal(padded[row : row + SIDE, column : column + SIDE], after)
        ]
        assert len(fits) == 1
        found += fits
    return found


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 2), (True, 2)])
def test_the_same_seed_gives_the_same_images_and_another_seed_others(images, flip, shift):
    first, second, other, next_step = (
        varied(images, seed=seed, flip=flip, shift=shift) for seed in ((3, 8), (3, 8), (4, 8), (3, 10))
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, next_step)


def test_a_flip_gives_originals_and_mirror_images_in_about_equal_parts(images):
    found = varied(images, flip=True, shift=0)
    original = (found == images).all(axis=(1, 2, 3))
    mirrored = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (original ^ mirrored).all()
    assert 96 < mirrored.sum() < 160  # 128 in the mean, 8 in standard deviation


@pytest.mark.parametrize("shift", [1, 3])
def test_a_shift_moves_by_at_most_so_many_pixels_and_reflects_the_edges(images, shift):
    moved = offsets(images, varied(images, flip=False, shift=shift), shift)
    every = set(range(-shift, shift + 1))
    assert {row for row, _ in moved} == every
    assert {column for _, column in moved} == every
    assert len(set(moved)) > len(every)  # rows and columns move independently


@pytest.mark.parametrize(("flip", "shift"), [(False, 0), (True, 0), (False, 2), (True, 2)])
def test_type_and_shape_are_kept_and_the_argument_is_not_changed(images, flip, shift):
    before = images.copy()
    found = varied(images, flip=flip, shift=shift)
    assert found.dtype == np.uint8
    assert found.shape == images.shape
    assert np.array_equal(images, before)


def test_where_nothing_is_asked_nothing_changes(images):
    assert np.array_equal(varied(images, flip=False, shift=0), images)


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 1), (True, 2)])
def test_drawn_views_are_what_the_same_seed_does_to_images(images, flip, shift):
    views = variation_views(flip=flip, shift=shift)
    assert len(set(views)) == len(views) == (2 if flip else 1) * (2 * shift + 1) ** 2
    assert views[0] == "identity"
    drawn = drawn_views(tf.constant(256), tf.constant((3, 8)), flip=flip, shift=shift).numpy()
    assert set(drawn) == set(range(len(views)))
    shown = np.concatenate(
        [show(images[place : place + 1], views[drawn[place]]) for place in range(len(images))]
    )
    np.testing.assert_array_equal(shown, varied(images, flip=flip, shift=shift))
