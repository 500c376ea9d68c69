"""Augmentation flips and shifts as its seed determines, and changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pipeline.features.passes import apply_view
from pipeline.training.augmentation import augment, draw_views, mix_pairs
from pipeline.views import augmentation_views

SIDE = 16


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return 256 copies of an image whose pixels encode their position: (row, column, row + column)."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    one = np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)
    return np.broadcast_to(one, (256, *one.shape)).copy()


def augmented(images: np.ndarray, *, seed: tuple[int, int] = (3, 8), flip: bool, shift: int) -> np.ndarray:
    return augment(tf.constant(images), tf.constant(seed), flip=flip, shift=shift).numpy()


def offsets(images: np.ndarray, shifted: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Return the shift of each image, up to most pixels, by trying them all; fail unless exactly one fits."""
    shifts = []
    for original, image in zip(images, shifted, strict=True):
        padded = np.pad(original, ((most, most), (most, most), (0, 0)), mode="reflect")
        fits = [
            (row - most, column - most)
            for row in range(2 * most + 1)
            for column in range(2 * most + 1)
            if np.array_equal(padded[row : row + SIDE, column : column + SIDE], image)
        ]
        assert len(fits) == 1
        shifts += fits
    return shifts


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 2), (True, 2)])
def test_the_same_seed_gives_the_same_images_and_another_seed_different_ones(images, flip, shift):
    first, second, other_seed, next_step = (
        augmented(images, seed=seed, flip=flip, shift=shift) for seed in ((3, 8), (3, 8), (4, 8), (3, 10))
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, next_step)


def test_about_half_of_the_images_are_flipped(images):
    result = augmented(images, flip=True, shift=0)
    original = (result == images).all(axis=(1, 2, 3))
    flipped = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (original ^ flipped).all()
    assert 96 < flipped.sum() < 160  # mean 128, standard deviation 8


@pytest.mark.parametrize("shift", [1, 3])
def test_shifts_cover_the_range_and_reflect_the_edges(images, shift):
    shifts = offsets(images, augmented(images, flip=False, shift=shift), shift)
    full_range = set(range(-shift, shift + 1))
    assert {row for row, _ in shifts} == full_range
    assert {column for _, column in shifts} == full_range
    assert len(set(shifts)) > len(full_range)  # rows and columns shift independently


@pytest.mark.parametrize(("flip", "shift"), [(False, 0), (True, 0), (False, 2), (True, 2)])
def test_dtype_and_shape_are_preserved_and_the_input_is_not_modified(images, flip, shift):
    before = images.copy()
    result = augmented(images, flip=flip, shift=shift)
    assert result.dtype == np.uint8
    assert result.shape == images.shape
    assert np.array_equal(images, before)


def test_without_flip_and_shift_nothing_changes(images):
    assert np.array_equal(augmented(images, flip=False, shift=0), images)


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 1), (True, 2)])
def test_draw_views_matches_augment_for_the_same_seed(images, flip, shift):
    views = augmentation_views(flip=flip, shift=shift)
    assert len(set(views)) == len(views) == (2 if flip else 1) * (2 * shift + 1) ** 2
    assert views[0] == "identity"
    drawn = draw_views(tf.constant(256), tf.constant((3, 8)), flip=flip, shift=shift).numpy()
    assert set(drawn) == set(range(len(views)))
    expected = np.concatenate(
        [apply_view(images[row : row + 1], views[drawn[row]]) for row in range(len(images))]
    )
    np.testing.assert_array_equal(expected, augmented(images, flip=flip, shift=shift))


def mixed(seed: tuple[int, int] = (3, 8), alpha: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return 400 mixed inputs (400, 2) and targets (400, 400), each of which encodes its own position."""
    inputs = np.stack([np.arange(400), np.arange(400) ** 2 / 100], axis=1).astype(np.float16)
    return tuple(part.numpy() for part in mix_pairs(inputs, tf.eye(400), tf.constant(seed), alpha))


def test_mixup_mixes_inputs_and_targets_of_two_examples_by_the_same_share():
    inputs, targets = mixed()
    share = targets.diagonal()
    numbers, partners = np.arange(400), np.arange(400)[::-1]
    assert targets.sum(axis=1) == pytest.approx(1)
    assert targets[numbers, partners] == pytest.approx(1 - share, abs=1e-6)
    assert (share >= 0.5).all()
    np.testing.assert_allclose(inputs[:, 0], share * numbers + (1 - share) * partners, rtol=1e-5)


def test_the_share_of_mixup_has_the_mean_of_its_distribution_and_depends_on_the_seed():
    # The larger of x and 1 - x with x from Beta(1, 1), the uniform distribution, is 3/4 on average.
    assert mixed(alpha=1.0)[1].diagonal().mean() == pytest.approx(0.75, abs=0.03)
    assert mixed(alpha=0.1)[1].diagonal().mean() > 0.9
    assert np.array_equal(mixed()[0], mixed()[0])
    assert not np.array_equal(mixed()[0], mixed(seed=(4, 8))[0])
