"""Plots across seeds have means, intervals over seeds and the effect of each block at their values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.report.study_reports import draw_blocks, draw_replicates
from pipeline.results.replicates import effects, summarize

COUNTS = {"n_val": 50, "n_test": 100, "n_train": 350, "epochs": 8, "train_seconds": 3.0}
SEED_EFFECTS = {"a": (0.0, 0.05, -0.08), "b": (0.0, 0.02, 0.04)}


@pytest.fixture
def grid() -> pd.DataFrame:
    """Two conv by two dense blocks by three seeds: a is 0.1 better than b, x 0.02 better than y."""
    return pd.DataFrame(
        [
            {"conv": conv, "dense": dense, "seed": seed, "val_accuracy": 0.5, **COUNTS}
            | {"accuracy": 0.5 + 0.1 * (conv == "a") + 0.02 * (dense == "x") + shift}
            for conv in ("a", "b")
            for dense in ("x", "y")
            for seed, shift in enumerate(SEED_EFFECTS[conv])
        ]
    )


def bars_of(container) -> np.ndarray:
    """Return the ends of the error bars of a container along x, (points, 2)."""
    return np.array(container.lines[2][0].get_segments())[:, :, 0]


def test_seeds_are_dots_and_the_mean_has_its_interval(grid):
    table = grid.assign(variant=grid["conv"] + grid["dense"])
    axes = draw_replicates(table, "title", "caption").axes[0]
    (means,) = axes.containers
    summary = summarize(table, ["variant"]).sort_values("accuracy", kind="stable")
    assert [name.get_text() for name in axes.get_yticklabels()] == ["by", "bx", "ay", "ax"]
    assert means.lines[0].get_xdata() == pytest.approx([52, 54, 59, 61])
    assert means.lines[0].get_ydata().tolist() == [0, 1, 2, 3]
    assert bars_of(means) == pytest.approx(100 * summary[["accuracy_low", "accuracy_high"]].to_numpy())
    places = {"by": 0, "bx": 1, "ay": 2, "ax": 3}
    seeds = [(100 * one, places[name]) for name, one in zip(table["variant"], table["accuracy"], strict=True)]
    assert axes.lines[0].get_xydata() == pytest.approx(np.array(seeds))


def test_combinations_and_effects_are_drawn_at_their_values(grid):
    means, effect_axes = draw_blocks(grid, ("conv", "dense"), "title", "caption").axes
    summary = summarize(grid, ["conv", "dense"])
    for number, (container, dense) in enumerate(zip(means.containers, ("x", "y"), strict=True)):
        rows = summary[summary["dense"] == dense]
        assert container.get_label() == dense
        assert container.lines[0].get_xdata() == pytest.approx(100 * rows["accuracy"].to_numpy())
        assert container.lines[0].get_ydata() == pytest.approx(np.array([0, 1]) + (-0.15, 0.15)[number])
        assert bars_of(container) == pytest.approx(100 * rows[["accuracy_low", "accuracy_high"]].to_numpy())
    for container, factor, places in zip(
        effect_axes.containers, ("conv", "dense"), ([0, 1], [3, 4]), strict=True
    ):
        table = effects(grid, factor)
        assert container.lines[0].get_ydata().tolist() == places
        assert container.lines[0].get_xdata() == pytest.approx(100 * table["effect"].to_numpy())
        assert bars_of(container) == pytest.approx(100 * table[["low", "high"]].to_numpy())
    assert [name.get_text() for name in effect_axes.get_yticklabels()] == ["a", "b", "x", "y"]


def test_one_seed_has_no_error_bars(grid):
    means, effect_axes = draw_blocks(grid[grid["seed"] == 0], ("conv", "dense"), "title", "caption").axes
    assert not any(container.has_xerr for container in (*means.containers, *effect_axes.containers))
