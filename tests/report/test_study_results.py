"""The table of a study is ranked, its plots draw any study, and its page lists the trials."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from pipeline.report.drawing import publish_figure
from pipeline.report.studies import (
    draw_history,
    draw_importance,
    study_markdown,
    trial_table,
)
from pipeline.report.sweeps import draw_sweep

AXES = {
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "filters": CategoricalDistribution(["8", "16"]),
}


def trial(state: TrialState, value: float | None = None, rate: float = 0.01, filters: str = "8", **more):
    return create_trial(
        state=state,
        value=value,
        params={"learning_rate": rate, "filters": filters},
        distributions=AXES,
        intermediate_values={1: 0.2, 2: 0.4} if state != TrialState.FAIL else {},
        user_attrs=more,
    )


@pytest.fixture
def trials():
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            trial(TrialState.COMPLETE, 0.5),
            trial(TrialState.FAIL, reason="the loss is nan"),
            trial(TrialState.PRUNED, rate=0.1),
            trial(TrialState.COMPLETE, 0.75, rate=0.001, filters="16"),
            trial(TrialState.COMPLETE, 0.75, rate=0.002),
        ]
    )
    return study.trials


def test_complete_trials_come_first_best_first_then_pruned_then_failed(trials):
    table = trial_table(trials, [*AXES], 100)
    assert table["trial"].tolist() == [3, 4, 0, 2, 1]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    assert table["state"].tolist() == ["complete"] * 3 + ["pruned", "failed"]


def test_only_complete_trials_have_an_accuracy_with_wilsons_interval(trials):
    table = trial_table(trials, [*AXES], 100).set_index("trial")
    assert table.loc[3, "val_accuracy_low"] == pytest.approx(0.657, abs=1e-3)
    assert table.loc[3, "val_accuracy_high"] == pytest.approx(0.825, abs=1e-3)
    assert math.isnan(table.loc[2, "val_accuracy"])
    assert table.loc[2, "best_epoch_accuracy"] == 0.4
    assert table.loc[2, "epochs"] == 2
    assert table.loc[1, "reason"] == "the loss is nan"


def test_the_page_lists_settings_and_puts_pruned_accuracies_in_parentheses(trials):
    page = study_markdown(trial_table(trials, [*AXES], 100), [*AXES], ["# Title", "A sentence."])
    assert page.startswith("# Title\n\nA sentence.\n")
    assert "| 1 | 3 | complete | 75.0 % (65.7–82.5) | 0.001 | 16 | 2 |" in page
    assert "| 4 | 2 | pruned | (40.0 %) | 0.1 | 8 | 2 |" in page


@pytest.mark.parametrize("count", [1, 2, 5])
def test_plots_draw_one_trial_or_several(trials, count, tmp_path):
    table = trial_table(trials[:count], [*AXES], 100)
    importance = {"learning_rate": 0.8, "filters": 0.2} if count > 2 else {}
    plots = {
        "history": (draw_history, table, "caption"),
        "importance": (draw_importance, importance, "caption"),
        "settings": (draw_sweep, table[table["state"] == "complete"], [*AXES], "Complete trials", "caption"),
    }
    for name, (function, *arguments) in plots.items():
        publish_figure(tmp_path / f"{name}.png", function, *arguments)
        assert (tmp_path / f"{name}.png").stat().st_size > 3_000


def test_the_line_of_the_best_so_far_never_decreases(trials):
    axes = draw_history(trial_table(trials, [*AXES], 100), "caption").axes[0]
    best = next(line for line in axes.lines if line.get_label() == "best so far")
    assert best.get_ydata().tolist() == [50.0, 75.0, 75.0]
