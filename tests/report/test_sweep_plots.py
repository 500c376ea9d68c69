"""The plot of a sweep has every trial at its accuracy, the best of each value, and the chosen trial."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.report.sweeps import _sort_key, draw_sweep

ACCURACIES = {  # by c and layers
    (0.01, "block5_pool"): 0.5,
    (0.01, "block4_pool,block5_pool"): 0.6,
    (1.0, "block5_pool"): 0.8,
    (1.0, "block4_pool,block5_pool"): 0.7,
    (0.1, "block5_pool"): 0.75,
    (0.1, "block4_pool,block5_pool"): 0.55,
}


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [{"c": c, "layers": layers, "val_accuracy": one} for (c, layers), one in ACCURACIES.items()]
    return pd.DataFrame(rows).sort_values("val_accuracy", ascending=False, ignore_index=True)


def test_every_trial_is_a_dot_and_the_line_joins_the_best_of_each_value(table):
    panel = draw_sweep(table, ["c", "layers"], "Sweep of linear", "caption").axes[0]
    trials, best, chosen = panel.lines
    assert trials.get_xdata().tolist() == [2, 1, 2, 0, 1, 0]
    assert trials.get_ydata() == pytest.approx([80, 75, 70, 60, 55, 50])
    assert (best.get_xdata().tolist(), best.get_ydata()) == ([0, 1, 2], pytest.approx([60, 75, 80]))
    assert (chosen.get_xdata().tolist(), chosen.get_ydata()) == ([2], pytest.approx([80]))
    assert [name.get_text() for name in panel.get_xticklabels()] == ["0.01", "0.1", "1"]


def test_two_settings_have_a_heat_map_with_the_chosen_pair_marked(table):
    figure = draw_sweep(table, ["c", "layers"], "Sweep of linear", "caption")
    panel = figure.axes[2]
    grid = np.array([[60, 50], [55, 75], [70, 80]])  # the rows of c, the columns of layers
    assert np.asarray(panel.images[0].get_array()) == pytest.approx(grid)
    assert panel.images[0].get_clim() == (65, 80)
    assert [name.get_text() for name in panel.get_xticklabels()] == ["4+5", "5"]
    assert [name.get_text() for name in panel.get_yticklabels()] == ["0.01", "0.1", "1"]
    assert panel.lines[0].get_xydata().tolist() == [[1, 2]]
    assert figure.get_suptitle() == "Sweep of linear: best val accuracy 80.0 %"


def test_a_setting_with_one_value_has_no_panel_and_a_message_if_there_is_no_other(table):
    of_one = table[table["layers"] == "block5_pool"].reset_index(drop=True)
    assert [axes.get_xlabel() for axes in draw_sweep(of_one, ["c", "layers"], "Sweep", "").axes] == ["c"]
    (panel,) = draw_sweep(table.head(1), [], "Sweep of linear", "caption").axes
    assert panel.texts[0].get_text() == "nothing to search: val accuracy 80.0 %"


def test_settings_drawn_from_a_range_have_an_axis_of_numbers_without_a_line_or_a_heat_map():
    rates = np.geomspace(1e-4, 1e-1, 20)
    drawn = {"learning_rate": rates, "dropout": rates[::-1] * 5, "val_accuracy": np.linspace(0.9, 0.5, 20)}
    figure = draw_sweep(pd.DataFrame(drawn), ["learning_rate", "dropout"], "Complete trials", "caption")
    rate, _ = figure.axes
    assert rate.get_xscale() == "log"
    trials, chosen = rate.lines
    assert trials.get_xdata() == pytest.approx(rates)
    assert chosen.get_xydata().tolist() == [[rates[0], 90]]


def test_many_settings_are_drawn_in_rows_of_panels(table):
    names = list("abcdef")
    wide = table.assign(**dict.fromkeys(names, table["c"]))
    figure = draw_sweep(wide, names, "Complete trials", "caption")
    assert [axes.get_xlabel() for axes in figure.axes] == [*names, "", ""]
    assert {axes.get_subplotspec().get_gridspec().get_geometry() for axes in figure.axes} == {(2, 4)}


def test_choices_are_sorted_by_their_numbers():
    values = ["64,128", "8", "256", "64", "conv - maxpool", "1.2.3"]
    assert sorted(values, key=_sort_key) == ["8", "64", "64,128", "256", "1.2.3", "conv - maxpool"]
    assert sorted([1.0, 1e-05, 0.1], key=_sort_key) == [1e-05, 0.1, 1.0]
