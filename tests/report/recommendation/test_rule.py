"""The rule that chooses input size, layers and cut, on probes with planted accuracies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.report.recommendation.probe import Probe, joins
from pipeline.report.recommendation.rule import choose, choose_size, difference, short_name


def probe(size: int, accuracy: float, blocks: tuple[int, ...] = (5,), n: int = 1000) -> Probe:
    """Return a probe that classifies the first images correctly, so more accurate ones differ by few."""
    correct = np.arange(n) < round(n * accuracy)
    return Probe(input_size=size, blocks=blocks, width=64, correct=correct, seconds=1.0, bytes=1)


def test_the_standard_error_is_that_of_paired_proportions():
    a, b = np.zeros(100, bool), np.zeros(100, bool)
    a[:30], b[20:34] = True, True  # 20 only a, 10 both, 4 only b
    loss, error = difference(probe_of(a), probe_of(b))
    assert loss == pytest.approx(0.16)
    assert error == pytest.approx(math.sqrt(20.5 + 4.5 - 16**2 / 102) / 102)


def probe_of(correct: np.ndarray) -> Probe:
    return Probe(32, (1,), 64, correct, 1.0, 1)


@pytest.mark.parametrize(
    ("accuracies", "own", "expected"),
    [
        ({32: 0.80, 64: 0.86, 128: 0.90, 224: 0.901}, 32, 128),  # 0.1 points more do not pay
        ({32: 0.80, 64: 0.86, 128: 0.90, 224: 0.95}, 32, 224),
        ({32: 0.95, 64: 0.951, 128: 0.93}, 32, 32),
        ({32: 0.90, 64: 0.95, 224: 0.951}, 224, 64),  # below the images' own size, certain to lose little
        ({32: 0.90, 64: 0.92, 224: 0.951}, 224, 224),
    ],
)
def test_the_smallest_size_that_is_close_to_the_best_is_chosen(accuracies, own, expected):
    assert choose_size([probe(size, accuracy) for size, accuracy in accuracies.items()], own) == expected


@pytest.mark.parametrize(("n", "expected"), [(60, 224), (1000, 32)])
def test_few_images_cannot_show_that_a_smaller_size_loses_nothing(n, expected):
    assert choose_size([probe(32, 1.0, n=n), probe(224, 1.0, n=n)], own_size=224) == expected


def test_the_earliest_join_close_to_the_best_is_chosen_and_blocks_after_a_drop_are_trained():
    values = {(1,): 0.5, (2,): 0.7, (3,): 0.85, (4,): 0.6, (5,): 0.4, (2, 3): 0.9, (2, 3, 4): 0.901}
    choice = choose([probe(32, value, blocks) for blocks, value in values.items()], own_size=32)
    assert (choice.input_size, choice.blocks, choice.freeze_through) == (32, (2, 3), 3)
    assert choice.reasons[1] == "Blocks 2+3: 90.0 %, −0.1 points from the most accurate join, blocks 2–4."
    assert "block 4 drops to 60.0 %" in choice.reasons[2]


def test_the_last_block_is_trained_even_if_it_loses_no_accuracy():
    probes = [probe(32, 0.5 + block / 10, (block,)) for block in range(1, 5)]
    choice = choose(probes, own_size=32)
    assert choice.freeze_through == 3
    assert "the last block does not lose accuracy" in choice.reasons[2]


def test_joins_are_all_runs_of_consecutive_blocks():
    assert joins(3) == [(1,), (1, 2), (1, 2, 3), (2,), (2, 3), (3,)]
    assert [short_name(blocks) for blocks in joins(3)] == ["1", "1+2", "1–3", "2", "2+3", "3"]
