"""Planted copies are found and classified, whether mirrored, brightened or shifted."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import TEST, TRAIN, VAL, photographs

from pipeline.errors import DamagedFile
from pipeline.report.findings import duplicates
from pipeline.report.findings.duplicates import (
    DISSIMILAR,
    IDENTICAL,
    NEAR,
    SIMILAR,
    VERDICTS,
    compare,
    detail_correlation,
    nearest,
    rms_difference,
    verdicts,
)
from pipeline.report.findings.sources import FindingSources

COPIED, MIRRORED, BRIGHTER, SHIFTED = 5, 6, 7, 8  # rows of train
FIRST_TEST = TRAIN + VAL


@pytest.fixture
def planted() -> np.ndarray:
    """Images in which four test images and one val image are copies of training images."""
    images = photographs(TRAIN + VAL + TEST)
    images[FIRST_TEST] = images[COPIED]
    images[FIRST_TEST + 1] = images[MIRRORED][:, ::-1]
    images[FIRST_TEST + 2] = (images[BRIGHTER] * 0.9 + 20).astype(np.uint8)
    images[FIRST_TEST + 3] = np.roll(images[SHIFTED], (1, 2), axis=(0, 1))
    images[TRAIN] = images[COPIED]
    return images


def test_planted_copies_are_found_with_the_right_verdict(make_sources, planted):
    table = duplicates.find(make_sources(planted)).set_index("index")
    expected = {
        10 * TRAIN: (COPIED, IDENTICAL, False),
        10 * FIRST_TEST: (COPIED, IDENTICAL, False),
        10 * (FIRST_TEST + 1): (MIRRORED, IDENTICAL, True),
        10 * (FIRST_TEST + 2): (BRIGHTER, NEAR, False),
        10 * (FIRST_TEST + 3): (SHIFTED, NEAR, False),
    }
    copies = table[table["verdict"].isin([IDENTICAL, NEAR])]
    rows = zip(copies["train_index"] // 10, copies["verdict"], copies["mirrored"], strict=True)
    assert dict(zip(copies.index, rows, strict=True)) == expected


def test_the_nearest_pairs_are_listed_even_if_nothing_is_similar(make_sources):
    table = duplicates.find(make_sources(photographs(TRAIN + VAL + TEST)))
    assert len(table) == duplicates.ALWAYS_LISTED
    assert set(table["verdict"]) == {DISSIMILAR}
    assert table["cosine"].is_monotonic_decreasing
    assert table["rank"].tolist() == list(range(1, len(table) + 1))


def test_the_summary_counts_verdicts_and_pairs_with_two_labels(make_sources, planted):
    sources = make_sources(planted)
    summary = duplicates.summary(sources, duplicates.find(sources))
    assert "20 pairs are listed: 3 identical, 2 near-identical, 15 dissimilar." in summary
    assert "(4 in test, 1 in val), 5 have two different labels" in summary


def test_the_nearest_row_matches_the_full_cosine_matrix():
    features = np.random.default_rng(0).normal(2, 3, size=(100, 12)).astype(np.float32)
    train, others = np.arange(0, 100, 2), np.arange(1, 100, 2)
    before = features.copy()
    neighbors, cosine = nearest(features, train, others)
    points = (features - features[train].mean(axis=0)) / features[train].std(axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cosines = points[others] @ points[train].T
    assert (neighbors == train[cosines.argmax(axis=1)]).all()
    assert cosine == pytest.approx(cosines.max(axis=1), abs=1e-5)
    assert (features == before).all()


def test_a_feature_that_is_constant_on_train_is_ignored():
    features = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    features[:, 7] = 0
    train, others = np.arange(20), np.arange(20, 30)
    expected = nearest(features, train, others)
    features[20:, 7] = 1000
    assert (nearest(features, train, others)[0] == expected[0]).all()


def test_a_verdict_beyond_similar_needs_evidence_from_pixels():
    cosine, rms = np.array([0.99, 0.5, 0.95, 0.5]), np.array([0.0, 9, 40, 40])
    numbers = verdicts(cosine, rms, np.array([1, 0.7, 0.2, 0]), near=0.6)
    assert [VERDICTS[number] for number in numbers] == [IDENTICAL, NEAR, SIMILAR, DISSIMILAR]


def test_simple_drawings_must_be_more_similar_than_random_pairs(make_sources):
    drawings = np.zeros((TRAIN + VAL + TEST, 32, 32, 3), dtype=np.uint8)
    drawings[:, 4:28, 14:18] = 200  # all drawings have the same stroke
    drawings += np.random.default_rng(0).integers(0, 40, drawings.shape, dtype=np.uint8)
    sources = make_sources(drawings)
    assert duplicates.near_detail(sources) > 0.9
    assert (duplicates.find(sources)["verdict"] == NEAR).mean() < 0.5


def test_the_rms_difference_is_in_units_of_pixel_values():
    black, gray = np.zeros((2, 32, 32, 3), dtype=np.uint8), np.full((2, 32, 32, 3), 51, dtype=np.uint8)
    assert rms_difference(black, gray) == pytest.approx([51, 51])


def test_images_without_detail_have_a_detail_correlation_of_zero():
    flat, detailed = np.full((1, 32, 32, 3), 90, dtype=np.uint8), photographs(1)
    assert detail_correlation(flat, detailed) == pytest.approx([0], abs=1e-3)
    assert detail_correlation(flat, flat) == pytest.approx([0], abs=1e-3)
    assert compare(flat, flat)["rms"].tolist() == [0]


def test_a_common_frame_does_not_make_images_similar():
    one, other = photographs(1), photographs(1, seed=1)
    for image in (one, other):
        image[:, :2], image[:, -2:], image[:, :, :2], image[:, :, -2:] = 255, 255, 255, 255
    assert compare(one, other)["detail"].item() < 0.4


def test_features_of_other_images_raise_an_error(make_sources):
    sources = make_sources(photographs(TRAIN + VAL + TEST))
    sources.features.index = sources.features.index + 1
    with pytest.raises(DamagedFile, match="its images or labels differ from those of .*images"):
        FindingSources(sources.run, sources.images, sources.features, sources.layers)
