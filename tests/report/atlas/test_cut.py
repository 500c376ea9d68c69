"""The cut is chosen on val only: the deepest block within the interval of the best."""

from __future__ import annotations

import pytest

from pipeline.report.atlas.layer_sets import LOGISTIC
from pipeline.report.atlas.report import choose_cut, narrowest_words


def test_the_cut_is_after_the_most_accurate_block_and_is_explained(second_best):
    table, _ = second_best
    cut = choose_cut(table)
    assert cut.freeze_through == 2
    assert cut.words.startswith("Cut after block 2: block 2 is the most accurate single block with ")
    assert "on 300 val images; block 3 drops to " in cut.words
    assert cut.words.endswith("The trained blocks after the cut take 69.0 % of the network's multiply-adds.")


def test_a_deeper_block_within_the_interval_of_the_best_is_preferred(second_best):
    table = with_val(second_best[0], {"1": 0.5, "2": 0.80, "3": 0.79, "4": 0.6, "5": 0.5})
    cut = choose_cut(table)
    assert cut.freeze_through == 3
    assert (
        "block 3 with 79.0 % is the deepest single block within the interval of the best, block 2"
        in cut.words
    )


def test_if_the_last_block_is_as_accurate_only_it_is_trained(second_best):
    cut = choose_cut(with_val(second_best[0], {"1": 0.5, "2": 0.6, "3": 0.7, "4": 0.8, "5": 0.9}))
    assert cut.freeze_through == 4
    assert "The last block does not clearly lose accuracy" in cut.words
    assert "after the cut take 9.0 %" in cut.words


def test_test_accuracy_nearest_neighbors_and_concatenations_do_not_change_the_cut(second_best):
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
        ({"2": 0.95}, "no set with fewer features is within that interval"),
    ],
)
def test_the_smallest_set_within_the_interval_of_the_best_is_named(second_best, accuracies, words):
    table = second_best[0].assign(val_accuracy=0.5, val_accuracy_low=0.45, val_accuracy_high=0.55)
    assert words in narrowest_words(with_val(table, accuracies))


def with_val(table, accuracies: dict[str, float]):
    """Return table with these val accuracies of logistic regression, each ± 2.5 points."""
    table = table.copy()
    for blocks, accuracy in accuracies.items():
        row = (table["head"] == LOGISTIC) & (table["blocks"] == blocks)
        table.loc[row, ["val_accuracy", "val_accuracy_low", "val_accuracy_high"]] = (
            accuracy,
            accuracy - 0.025,
            accuracy + 0.025,
        )
    return table
