"""The cut follows from val alone: the deepest block within the interval of the best."""

from __future__ import annotations

import pytest

from pipeline.report.atlas.layer_sets import LOGISTIC
from pipeline.report.atlas.report import choose_cut, narrowest_words


def test_where_block_2_knows_most_the_cut_lies_behind_it_and_says_why(second_best):
    table, _ = second_best
    cut = choose_cut(table)
    assert cut.freeze_through == 2
    assert cut.words.startswith("Cut behind block 2: block 2 alone is the best, with ")
    assert "of 300 val images; block 3 falls to " in cut.words
    assert cut.words.endswith(
        "Behind the cut lie 69.0 % of the network's multiply-adds, the part that every step trains."
    )


def test_a_deeper_block_within_the_interval_of_the_best_is_preferred(second_best):
    table = with_val(second_best[0], {"1": 0.5, "2": 0.80, "3": 0.79, "4": 0.6, "5": 0.5})
    cut = choose_cut(table)
    assert cut.freeze_through == 3
    assert (
        "block 3 is the deepest that alone, with 79.0 %, is within the interval of the best, block 2"
        in cut.words
    )


def test_where_no_block_loses_only_the_last_moves(second_best):
    cut = choose_cut(with_val(second_best[0], {"1": 0.5, "2": 0.6, "3": 0.7, "4": 0.8, "5": 0.9}))
    assert cut.freeze_through == 4
    assert "no block loses" in cut.words
    assert "Behind the cut lie 9.0 %" in cut.words


def test_neither_test_accuracy_nor_neighbours_nor_joins_move_the_cut(second_best):
    table = second_best[0].copy()
    table["test_accuracy"] = 1 - table["test_accuracy"]
    table.loc[table["head"] != LOGISTIC, "val_accuracy"] = 1.0
    table.loc[table["blocks"] == "3+4+5", "val_accuracy"] = 1.0
    assert choose_cut(table) == choose_cut(second_best[0])


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        (
            {"1+2": 0.9, "2": 0.895},
            "The fewest features within that interval are the 8 of block 2",
        ),
        ({"2": 0.95}, "no set with fewer features comes within that interval"),
    ],
)
def test_the_narrowest_set_within_the_interval_of_the_best_is_named(second_best, accuracies, words):
    table = second_best[0].assign(val_accuracy=0.5, val_accuracy_low=0.45, val_accuracy_high=0.55)
    assert words in narrowest_words(with_val(table, accuracies))


def with_val(table, accuracies: dict[str, float]):
    """Return a table in which logistic regression reaches these accuracies on val, 2.5 points either way."""
    table = table.copy()
    for blocks, accuracy in accuracies.items():
        row = (table["head"] == LOGISTIC) & (table["blocks"] == blocks)
        table.loc[row, ["val_accuracy", "val_accuracy_low", "val_accuracy_high"]] = (
            accuracy,
            accuracy - 0.025,
            accuracy + 0.025,
        )
    return table
