"""Means over seeds have Student's intervals, and effects of blocks are separated from variation by seed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from pipeline.report.drawing import publish_figure
from pipeline.report.study_reports import draw_blocks, draw_curves, draw_replicates
from pipeline.results.replicates import (
    REPLICATE_COLUMNS,
    effects,
    effects_markdown,
    mean_interval,
    runs_markdown,
    summarize,
    summary_markdown,
)
from pipeline.results.scores import result_row
from pipeline.runs.result import HISTORY_COLUMNS, read_run

COUNTS = {"n_val": 50, "n_test": 100, "n_train": 350, "epochs": 8, "train_seconds": 3.0}


def row(seed, accuracy, val=0.5, **words) -> dict:
    bounds = {"accuracy_low": accuracy - 0.05, "accuracy_high": accuracy + 0.05}
    return {**words, "seed": seed, "accuracy": accuracy, "val_accuracy": val, **bounds, **COUNTS}


@pytest.fixture
def grid() -> pd.DataFrame:
    """Two conv by two dense blocks by three seeds: a is 0.10 better, x is 0.02 better, seeds differ."""
    return pd.DataFrame(
        [
            row(seed, 0.5 + 0.1 * (conv == "a") + 0.02 * (dense == "x") + luck, conv=conv, dense=dense)
            for conv in ("a", "b")
            for dense in ("x", "y")
            for seed, luck in enumerate((0.0, 0.05, -0.08))
        ]
    )


@pytest.mark.parametrize("values", [(0.9, 0.92), (0.94, 0.941, 0.938), tuple(np.linspace(0.1, 0.7, 9))])
def test_the_interval_of_a_mean_agrees_with_scipy(values):
    mean, low, high = mean_interval(values)
    spread = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread)
    assert (low, high) == pytest.approx(expected)
    assert mean == pytest.approx(np.mean(values))


def test_a_single_value_has_no_interval_and_nan_has_no_mean():
    mean, low, high = mean_interval([0.7])
    assert mean == 0.7
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(map(math.isnan, mean_interval([math.nan, math.nan])))


def test_an_interval_of_fractions_stays_within_0_and_1():
    table = pd.DataFrame([row(0, 0.99, variant="v"), row(1, 0.9, variant="v")])
    summary = summarize(table, ["variant"]).iloc[0]
    assert summary["accuracy_high"] == 1.0
    assert summary["accuracy_low"] > 0


def test_each_combination_has_a_row_with_the_spread_over_seeds(grid):
    summary = summarize(grid, ["conv", "dense"])
    assert list(zip(summary["conv"], summary["dense"], strict=True)) == [
        ("a", "x"),
        ("a", "y"),
        ("b", "x"),
        ("b", "y"),
    ]
    assert summary["seeds"].tolist() == [3, 3, 3, 3]
    assert summary["accuracy"].tolist() == pytest.approx([0.61, 0.59, 0.51, 0.49])
    assert summary["accuracy_spread"].tolist() == pytest.approx([np.std([0, 0.05, -0.08], ddof=1)] * 4)


@pytest.mark.parametrize(("factor", "effect"), [("conv", 0.05), ("dense", 0.01)])
def test_effects_exclude_variation_that_all_levels_share_by_seed(grid, factor, effect):
    table = effects(grid, factor)
    for column in ("effect", "low", "high"):
        assert table[column].tolist() == pytest.approx([effect, -effect])


def test_the_interval_of_an_effect_includes_0_if_seeds_disagree_about_it(grid):
    grid.loc[(grid["conv"] == "a") & (grid["seed"] == 0), "accuracy"] -= 0.2
    table = effects(grid, "conv").set_index("level")
    assert table.loc["a", "low"] < 0 < table.loc["a", "high"]


def test_tables_name_the_variant_and_have_a_dash_for_missing_values():
    table = pd.DataFrame([row(0, 0.7, math.nan, variant="v"), row(1, 0.72, math.nan, variant="v")])
    text = summary_markdown(summarize(table, ["variant"]), ["variant"])
    assert "| v | 2 | 71.0 % (58.3–83.7) | 1.41 | – | 8 | 3.0 s |" in text
    assert "| v | 1 | 72.0 % (67.0–77.0) | – | 3.0 s |" in runs_markdown(table, ["variant"])


def test_effects_are_formatted_in_points_best_first(grid):
    lines = effects_markdown(effects(grid, "conv"), "conv").splitlines()
    assert lines[2] == "| a | +5.0 | +5.0 … +5.0 |"
    assert lines[3].startswith("| b | -5.0 |")


def test_the_row_of_a_run_has_its_stored_results(run_folder):
    run = read_run(run_folder)
    result = result_row(run)
    assert set(REPLICATE_COLUMNS) <= set(result)
    test = run.split("test")
    assert result["accuracy"] == (test.probabilities.argmax(axis=1) == test.labels).mean()
    assert result["accuracy_low"] < result["accuracy"] < result["accuracy_high"]
    assert result["train_seconds"] == run.costs["train_seconds"]


def test_plots_draw_one_seed_or_several_with_and_without_val(grid, tmp_path):
    several = grid.assign(variant=grid["conv"] + grid["dense"])
    empty = pd.DataFrame(columns=list(HISTORY_COLUMNS))
    epochs = pd.DataFrame(
        {"seconds": [9.0, 20.0], "train_accuracy": [0.3, 0.5], "val_accuracy": [0.4, math.nan]}
    )
    curves = {"v": [epochs, epochs], "trained on val": [epochs.assign(val_accuracy=math.nan)], "h": [empty]}
    plots = {
        "several": (draw_replicates, several, "title", "caption"),
        "single": (draw_replicates, several[several["seed"] == 0], "title", "caption"),
        "curves": (draw_curves, curves, "caption"),
        "no curve": (draw_curves, {"h": [empty]}, "caption"),
        "blocks": (draw_blocks, grid, ("conv", "dense"), "title", "caption"),
        "blocks of one seed": (draw_blocks, grid[grid["seed"] == 0], ("conv", "dense"), "title", "caption"),
    }
    for name, (function, *arguments) in plots.items():
        publish_figure(tmp_path / f"{name}.png", function, *arguments)
        assert (tmp_path / f"{name}.png").stat().st_size > 3_000


def test_the_curves_have_a_line_for_each_seed_and_split():
    epochs = pd.DataFrame({"seconds": [9.0, 20.0], "train_accuracy": [0.3, 0.5], "val_accuracy": [0.4, 0.6]})
    figure = draw_curves({"v": [epochs, epochs], "w": [epochs.assign(val_accuracy=math.nan)]}, "caption")
    axes = figure.axes[0]
    assert len(axes.lines) == 2 * 2 + 1
    assert [text.get_text() for text in axes.get_legend().texts] == ["v", "w (train; val was trained on)"]
