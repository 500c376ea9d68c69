"""The hardest images come first, with finite losses."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import TEST, TRAIN, VAL, photographs

from pipeline.report.findings import hardest
from pipeline.report.findings.hardest import losses


def test_the_loss_is_the_negative_logarithm_of_the_labels_probability():
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    expected = np.log(2) * np.array([1, 2, 126])
    assert losses(probabilities, np.array([0, 0, 1])) == pytest.approx(expected)


def test_the_hardest_come_first_and_ties_are_broken_by_the_most_confident_mistake(make_sources):
    probabilities = np.full((VAL + TEST, 3), 1 / 3)
    probabilities[7] = (0.5, 0, 0.5)  # the label of row 67 is dog
    probabilities[10] = (0.9, 0, 0.1)  # and of row 70
    table = hardest.find(make_sources(photographs(TRAIN + VAL + TEST), probabilities))
    assert table["index"].tolist()[:2] == [700, 670]
    assert table["loss"].is_monotonic_decreasing
    assert table["predicted"].tolist()[0] == "cat"
    assert np.isfinite(table["loss"]).all()


def test_the_table_has_a_maximum_number_of_rows(make_sources, monkeypatch):
    monkeypatch.setattr(hardest, "MAX_ROWS", 4)
    sources = make_sources(photographs(TRAIN + VAL + TEST))
    table = hardest.find(sources)
    assert len(table) == 4
    assert "4 hardest of 30 images have losses of 0.22 to 0.22 nats" in hardest.summary(sources, table)
