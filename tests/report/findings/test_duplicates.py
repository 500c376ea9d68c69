"""Planted copies are found whatever was done to them, and said to be what they are."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import TEST, TRAIN, VAL, photographs

from pipeline.errors import DamagedFile
from pipeline.report.findings import duplicates
from pipeline.report.findings.duplicates import (
    IDENTICAL,
    NEAR,
    SIMILAR,
    UNLIKE,
    VERDICTS,
    compare,
    detail_correlation,
    nearest,
    rms_difference,
    verdicts,
)
from pipeline.report.findings.sources import Sources

COPIED, MIRRORED, BRIGHTER, MOVED = 5, 6, 7, 8  # rows of train
FIRST_TEST = TRAIN + VAL


@pytest.fixture
def planted() -> np.ndarray:
    """Images of which four of test and one of val are copies of training images."""
    images = photographs(TRAIN + VAL + TEST)
    images[FIRST_TEST] = images[COPIED]
    images[FIRST_TEST + 1] = images[MIRRORED][:, ::-1]
    images[FIRST_TEST + 2] = (images[BRIGHTER] * 0.9 + 20).astype(np.uint8)
    images[FIRST_TEST + 3] = np.roll(images[MOVED], (1, 2), axis=(0, 1))
    images[TRAIN] = images[COPIED]
    return images


def test_planted_copies_are_found_and_said_to_be_what_they_are(make_sources, planted):
    table = duplicates.find(make_sources(planted)).set_index("index")
    expected = {
        10 * TRAIN: (COPIED, IDENTICAL, False),
        10 * FIRST_TEST: (COPIED, IDENTICAL, False),
        10 * (FIRST_TEST + 1): (MIRRORED, IDENTICAL, True),
        10 * (FIRST_TEST + 2): (BRIGHTER, NEAR, False),
        10 * (FIRST_TEST + 3): (MOVED, NEAR, False),
    }
    sure = table[table["verdict"].isin([IDENTICAL, NEAR])]
    found = zip(sure["train_index"] // 10, sure["verdict"], sure["mirrored"], strict=True)
    assert dict(zip(sure.index, found, strict=True)) == expected


def test_the_nearest_are_listed_even_when_nothing_is_alike(make_sources):
    table = duplicates.find(make_sources(photographs(TRAIN + VAL + TEST)))
    assert len(table) == duplicates.ALWAYS_LISTED
    assert set(table["verdict"]) == {UNLIKE}
    assert table["cosine"].is_monotonic_decreasing
    assert table["rank"].tolist() == list(range(1, len(table) + 1))


def test_the_summary_counts_verdicts_and_pairs_with_two_labels(make_sources, planted):
    sources = make_sources(planted)
    summary = duplicates.summary(sources, duplicates.find(sources))
    assert "20 pairs are listed: 3 identical in pixels, 2 near-identical, 15 nearest found." in summary
    assert "(4 in test, 1 in val), 5 carry two different labels" in summary


def test_the_nearest_row_is_that_of_the_whole_matrix_of_cosines(monkeypatch):
    monkeypatch.setattr(duplicates, "CHUNK", 7)
    features = np.random.default_rng(0).normal(2, 3, size=(100, 12)).astype(np.float32)
    train, others = np.arange(0, 100, 2), np.arange(1, 100, 2)
    before = features.copy()
    found, cosine = nearest(features, train, others)
    points = (features - features[train].mean(axis=0)) / features[train].std(axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    whole = points[others] @ points[train].T
    assert (found == train[whole.argmax(axis=1)]).all()
    assert cosine == pytest.approx(whole.max(axis=1), abs=1e-5)
    assert (features == before).all()


def test_a_feature_that_training_images_never_show_decides_nothing():
    features = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    features[:, 7] = 0
    train, others = np.arange(20), np.arange(20, 30)
    expected = nearest(features, train, others)
    features[20:, 7] = 1000
    assert (nearest(features, train, others)[0] == expected[0]).all()


def test_a_verdict_needs_pixels_for_more_than_just_similar():
    cosine, rms = np.array([0.99, 0.5, 0.95, 0.5]), np.array([0.0, 9, 40, 40])
    found = verdicts(cosine, rms, np.array([1, 0.7, 0.2, 0]), near=0.6)
    assert [VERDICTS[one] for one in found] == [IDENTICAL, NEAR, SIMILAR, UNLIKE]


def test_simple_drawings_must_be_more_alike_than_chance_makes_them(make_sources):
    drawings = np.zeros((TRAIN + VAL + TEST, 32, 32, 3), dtype=np.uint8)
    drawings[:, 4:28, 14:18] = 200  # everybody draws the same stroke
    drawings += np.random.default_rng(0).integers(0, 40, drawings.shape, dtype=np.uint8)
    sources = make_sources(drawings)
    assert duplicates.near_detail(sources) > 0.9
    assert (duplicates.find(sources)["verdict"] == NEAR).mean() < 0.5


def test_the_difference_of_pixels_is_in_their_own_unit():
    black, grey = np.zeros((2, 32, 32, 3), dtype=np.uint8), np.full((2, 32, 32, 3), 51, dtype=np.uint8)
    assert rms_difference(black, grey) == pytest.approx([51, 51])


def test_images_without_detail_are_not_alike_in_detail():
    flat, busy = np.full((1, 32, 32, 3), 90, dtype=np.uint8), photographs(1)
    assert detail_correlation(flat, busy) == pytest.approx([0], abs=1e-3)
    assert detail_correlation(flat, flat) == pytest.approx([0], abs=1e-3)
    assert compare(flat, flat).rms == [0]


def test_a_frame_around_two_images_does_not_make_them_alike():
    one, other = photographs(1), photographs(1, seed=1)
    for image in (one, other):
        image[:, :2], image[:, -2:], image[:, :, :2], image[:, :, -2:] = 255, 255, 255, 255
    assert compare(one, other).detail < 0.4


def test_features_of_other_images_are_refused(make_sources):
    sources = make_sources(photographs(TRAIN + VAL + TEST))
    sources.features.index = sources.features.index + 1
    with pytest.raises(DamagedFile, match="expected the images and labels of .*images, found others"):
        Sources(sources.run, sources.images, sources.features, sources.layers)
