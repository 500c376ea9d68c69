"""Every row of the plot tables draws, the same way each time, and says what it shows."""

from __future__ import annotations

import sys

import pytest

from pipeline.errors import BadInput
from pipeline.report import figure, plots
from pipeline.report import label_placement as labels
from pipeline.report.plots import draw, draw_comparison
from pipeline.report.table import COMPARISON_PLOTS, PLOTS, Plot
from pipeline.results.comparison import compare

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 150_000


@pytest.fixture
def fine_tuned(make_run):
    return make_run("fine-tuned", scheme="fine-tune:block5", stages={"top": 2, "blocks": 6})


@pytest.fixture
def runs(make_run):
    schemes = [
        ("head:linear", "hed", 30),
        ("fine-tune:block5", "hed", 700),
        ("from-scratch:small", "none", 900),
    ]
    return [
        make_run(f"run{number}", scheme=scheme, weights=weights, total_seconds=seconds, skill=1 + number / 2)
        for number, (scheme, weights, seconds) in enumerate(schemes)
    ]


def caption_under(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_draws_a_small_png_and_the_same_run_gives_the_same_bytes(fine_tuned, tmp_path, name):
    for file in ("one.png", "two.png"):
        draw(name, fine_tuned, tmp_path / file)
    content = (tmp_path / "one.png").read_bytes()
    assert content.startswith(PNG)
    assert len(content) < LARGEST
    assert content == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("name", COMPARISON_PLOTS)
def test_every_comparison_plot_draws_a_small_png(runs, tmp_path, name):
    draw_comparison(name, compare(runs), tmp_path / "plot.png")
    content = (tmp_path / "plot.png").read_bytes()
    assert content.startswith(PNG)
    assert len(content) < LARGEST


@pytest.mark.parametrize("name", PLOTS)
def test_a_caption_says_data_sizes_weights_precision_and_seed(fine_tuned, name):
    text = caption_under(PLOTS[name].draw(fine_tuned))
    assert text == "CIFAR-10 (1,600 train / 100 val / 300 test) · weights hed · bfloat16 · seed 0"


@pytest.mark.parametrize("name", PLOTS)
def test_a_demonstration_on_digits_says_so(make_run, name):
    run = make_run(
        dataset="digits",
        dataset_title="digits",
        dataset_note="a demonstration, not CIFAR-10",
        stages={"train": 2},
    )
    text = caption_under(PLOTS[name].draw(run))
    assert text.startswith("digits: a demonstration, not CIFAR-10")


@pytest.mark.parametrize("name", COMPARISON_PLOTS)
def test_a_comparison_plot_carries_its_caption(runs, name):
    drawn = COMPARISON_PLOTS[name].draw(compare(runs))
    assert "weights hed, none" in caption_under(drawn)


def test_the_stages_of_fine_tuning_are_marked(fine_tuned):
    axes = PLOTS["accuracy_over_time"].draw(fine_tuned).axes[0]
    assert [text.get_text() for text in axes.texts] == ["top ◂", "▸ blocks"]
    assert axes.lines[-1].get_xdata()[0] == 2.5


def test_a_scheme_without_epochs_says_so_instead_of_an_empty_curve(make_run):
    axes = PLOTS["loss_over_time"].draw(make_run(stages={})).axes[0]
    assert axes.texts[0].get_text() == "no epochs: fitted in one step"


def test_many_classes_are_drawn_without_numbers_and_within_the_size(make_run, tmp_path):
    run = make_run(class_names=[f"class {number}" for number in range(100)], n_test=1000)
    assert not PLOTS["confusion_matrix"].draw(run).axes[0].texts
    for name in ("confusion_matrix", "per_class_accuracy"):
        draw(name, run, tmp_path / "plot.png")
        assert (tmp_path / "plot.png").stat().st_size < LARGEST


def test_the_text_in_a_cell_contrasts_with_the_cell():
    assert figure.readable_on((1, 1, 1, 1)) == "#000000"
    assert figure.readable_on((0.03, 0.19, 0.42, 1)) == "#ffffff"


def test_the_pareto_front_holds_what_nothing_cheaper_matches(runs):
    table = compare(runs).table.assign(seconds=[3.0, 2.0, 1.0], accuracy=[0.8, 0.5, 0.6])
    assert plots._pareto_front(table)["seconds"].tolist() == [1.0, 3.0]


def test_the_names_beside_points_of_one_place_do_not_overlap(make_run):
    several = [make_run(f"run{number}", scheme=f"head:{number}", total_seconds=10) for number in range(5)]
    drawn = COMPARISON_PLOTS["accuracy_against_cost"].draw(compare(several))
    renderer = drawn.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in drawn.axes[0].texts if text.arrow_patch is None]
    names = [box for box in boxes if box.width > 5]
    assert len(names) == 5
    assert not any(labels._shared(one, other) for one in names for other in names if one is not other)


def learning_rate(run):
    drawn, axes = plots.new_figure(plots.caption(run))
    axes.plot(run.history["epoch"], run.history["learning_rate"])
    return drawn


def test_a_plot_added_as_a_row_is_drawn(fine_tuned, tmp_path, monkeypatch):
    function = f"{__name__}:learning_rate"
    row = Plot("learning_rate", "Learning rate", "Learning rate of {label}.", function)
    monkeypatch.setitem(PLOTS, row.name, row)
    draw("learning_rate", fine_tuned, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(PNG)
    assert plots.alt_text("learning_rate", fine_tuned) == "Learning rate of fine-tune:block5 · hed."


def test_an_unknown_plot_is_refused_with_the_known_ones(fine_tuned, tmp_path):
    with pytest.raises(BadInput, match="unknown plot 'pie': expected one of accuracy_over_time"):
        draw("pie", fine_tuned, tmp_path / "pie.png")
    assert not (tmp_path / "pie.png").exists()


def test_alt_texts_say_the_result(runs, fine_tuned):
    assert "fine-tune:block5 · hed" in plots.alt_text("confusion_matrix", fine_tuned)
    text = plots.comparison_alt_text("accuracy_against_cost", compare(runs))
    assert "3 runs; the best is from-scratch:small with" in text
    assert "of 3 are real" in plots.comparison_alt_text("differences", compare(runs))


def test_drawing_uses_no_global_figures(fine_tuned, tmp_path):
    draw("confusion_matrix", fine_tuned, tmp_path / "plot.png")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
