"""A label budget is stratified, independent of the subset, and part of every larger budget."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.datasets.split import budget_rows
from pipeline.datasets.table import LabelBudget, parse_budget
from pipeline.errors import BadInput

LABELS = np.repeat(np.arange(4), 50)
ROWS = np.arange(0, 200, 2)  # 25 of each class
POSITIONS = np.arange(200)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5%", LabelBudget(0.05, None, 0)),
        ("12.5%#2", LabelBudget(0.125, None, 2)),
        ("100%", LabelBudget(1.0, None, 0)),
        (" 25/class#1 ", LabelBudget(None, 25, 1)),
    ],
)
def test_budget_is_a_share_or_a_number_per_class_with_an_optional_draw(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "5", "0%", "101%", "0/class", "5 %x", "5%#", "#1", "-5%", "5/classes"])
def test_invalid_budget_is_an_error_that_lists_valid_forms(text):
    with pytest.raises(BadInput, match="expected a share such as 5%"):
        parse_budget(text)


def test_share_is_the_same_for_each_class():
    rows = budget_rows(LABELS, ROWS, "20%", POSITIONS)
    assert set(rows) <= set(ROWS)
    assert np.bincount(LABELS[rows]).tolist() == [5, 5, 5, 5]
    assert (np.diff(rows) > 0).all()


def test_number_per_class_is_exact_or_limited_to_all_labels():
    assert np.bincount(LABELS[budget_rows(LABELS, ROWS, "3/class", POSITIONS)]).tolist() == [3] * 4
    assert np.array_equal(budget_rows(LABELS, ROWS, "1000/class", POSITIONS), ROWS)


def test_smallest_share_still_includes_every_class():
    assert sorted(LABELS[budget_rows(LABELS, ROWS, "0.01%", POSITIONS)]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("less", "more"), [("4%", "20%"), ("1/class", "3/class"), ("3/class", "20%")])
def test_smaller_budget_of_a_draw_is_part_of_a_larger_one(less, more):
    small, large = (set(budget_rows(LABELS, ROWS, text, POSITIONS)) for text in (less, more))
    assert small < large


def test_draws_differ_and_each_draw_is_reproducible():
    first, again, other = (budget_rows(LABELS, ROWS, text, POSITIONS) for text in ("20%", "20%#0", "20%#1"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_are_drawn_by_position_in_the_source_not_by_row():
    backwards = np.argsort(-POSITIONS)
    rows = np.flatnonzero(np.isin(backwards, ROWS))
    rows = budget_rows(LABELS[backwards], rows, "3/class", POSITIONS[backwards])
    assert set(backwards[rows]) == set(budget_rows(LABELS, ROWS, "3/class", POSITIONS))


def test_full_budget_selects_all_rows():
    assert np.array_equal(budget_rows(LABELS, ROWS, "100%", POSITIONS), ROWS)
