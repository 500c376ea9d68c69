"""A budget of labels is stratified, the same for every subset, and part of every larger one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.datasets.split import given_rows
from pipeline.datasets.table import Budget, parse_budget
from pipeline.errors import BadInput

LABELS = np.repeat(np.arange(4), 50)
ROWS = np.arange(0, 200, 2)  # 25 of each class
POSITIONS = np.arange(200)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5%", Budget(0.05, None, 0)),
        ("12.5%#2", Budget(0.125, None, 2)),
        ("100%", Budget(1.0, None, 0)),
        (" 25/class#1 ", Budget(None, 25, 1)),
    ],
)
def test_a_budget_is_a_share_or_a_number_of_each_class_and_a_draw(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "5", "0%", "101%", "0/class", "5 %x", "5%#", "#1", "-5%", "5/classes"])
def test_anything_else_is_refused_with_what_is_expected(text):
    with pytest.raises(BadInput, match="expected a share such as 5%"):
        parse_budget(text)


def test_a_share_takes_the_same_share_of_each_class():
    found = given_rows(LABELS, ROWS, "20%", POSITIONS)
    assert set(found) <= set(ROWS)
    assert np.bincount(LABELS[found]).tolist() == [5, 5, 5, 5]
    assert (np.diff(found) > 0).all()


def test_a_number_of_each_class_takes_just_that_or_all_there_are():
    assert np.bincount(LABELS[given_rows(LABELS, ROWS, "3/class", POSITIONS)]).tolist() == [3] * 4
    assert np.array_equal(given_rows(LABELS, ROWS, "1000/class", POSITIONS), ROWS)


def test_the_smallest_share_still_names_every_class():
    assert sorted(LABELS[given_rows(LABELS, ROWS, "0.01%", POSITIONS)]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("less", "more"), [("4%", "20%"), ("1/class", "3/class"), ("3/class", "20%")])
def test_a_smaller_budget_of_a_draw_is_part_of_a_larger_one(less, more):
    small, large = (set(given_rows(LABELS, ROWS, text, POSITIONS)) for text in (less, more))
    assert small < large


def test_draws_differ_and_a_draw_repeats():
    first, again, other = (given_rows(LABELS, ROWS, text, POSITIONS) for text in ("20%", "20%#0", "20%#1"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_are_drawn_by_their_positions_in_the_source_not_by_their_rows():
    turned = np.argsort(-POSITIONS)
    found = given_rows(LABELS[turned], np.flatnonzero(np.isin(turned, ROWS)), "3/class", POSITIONS[turned])
    assert set(turned[found]) == set(given_rows(LABELS, ROWS, "3/class", POSITIONS))


def test_all_labels_are_all_rows():
    assert np.array_equal(given_rows(LABELS, ROWS, "100%", POSITIONS), ROWS)
