"""Every row of the plot tables draws its values, deterministically, with its caption."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from pipeline.errors import BadInput
from pipeline.extensions import resolve
from pipeline.report import drawing, plots
from pipeline.report.plots import publish_plots
from pipeline.report.table import COMPARISON_PLOTS, PLOTS, Plot
from pipeline.results.comparison import compare
from pipeline.results.scores import class_scores
from pipeline.runs.result import Predictions

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 150_000


@pytest.fixture
def fine_tuned(make_run):
    return make_run("fine-tuned", scheme="fine-tune:block5", stages={"top": 2, "blocks": 6})


@pytest.fixture
def runs(make_run):
    schemes = [
        ("head:linear", "imagenet", 30),
        ("fine-tune:block5", "imagenet", 700),
        ("from-scratch:small", "none", 900),
    ]
    return [
        make_run(f"run{number}", scheme=scheme, weights=weights, total_seconds=seconds, skill=1 + number / 2)
        for number, (scheme, weights, seconds) in enumerate(schemes)
    ]


COUNTS = [[3, 1, 0], [2, 2, 1], [0, 0, 5]]  # images of cat, dog and fox by predicted class


@pytest.fixture
def counted(make_run):
    """A run whose confusion matrix on test is COUNTS."""
    run = make_run(class_names=["cat", "dog", "fox"])
    pairs = [pair for pair, count in np.ndenumerate(COUNTS) for _ in range(count)]
    labels, predicted = np.transpose(pairs)
    names = np.array([f"{number}.png" for number in range(len(labels))], dtype=object)
    probabilities = np.eye(3, dtype=np.float32)[predicted]
    test = Predictions(np.arange(len(labels)), names, labels, probabilities, ("cat", "dog", "fox"))
    return dataclasses.replace(run, predictions={**run.predictions, "test": test})


def bars_of(container) -> np.ndarray:
    """Return the ends of the error bars of a container, (points, 2 ends, x and y)."""
    return np.array(container.lines[2][0].get_segments())


def points_of(axes) -> dict[str, np.ndarray]:
    """Return the points (n, 2) of each family by its legend label."""
    return {bars.get_label(): bars.lines[0].get_xydata() for bars in axes.containers}


def caption_under(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_draws_a_small_png_and_the_same_run_gives_the_same_bytes(fine_tuned, tmp_path, name):
    for folder in ("one", "two"):
        assert publish_plots(tmp_path / folder, {name: PLOTS[name]}, fine_tuned) == [f"{name}.png"]
    content = (tmp_path / "one" / f"{name}.png").read_bytes()
    assert content.startswith(PNG)
    assert len(content) < LARGEST
    assert content == (tmp_path / "two" / f"{name}.png").read_bytes()


def test_plots_that_are_up_to_date_are_named_but_not_drawn_again(fine_tuned, tmp_path):
    up_to_date = [f"{name}.png" for name in PLOTS if name != "loss_over_time"]
    assert publish_plots(tmp_path, PLOTS, fine_tuned, up_to_date) == [f"{name}.png" for name in PLOTS]
    assert [path.name for path in tmp_path.glob("*.png")] == ["loss_over_time.png"]


@pytest.mark.parametrize("name", COMPARISON_PLOTS)
def test_every_comparison_plot_draws_a_small_png(runs, tmp_path, name):
    (file,) = publish_plots(tmp_path, {name: COMPARISON_PLOTS[name]}, compare(runs))
    content = (tmp_path / file).read_bytes()
    assert content.startswith(PNG)
    assert len(content) < LARGEST


@pytest.mark.parametrize("name", PLOTS)
def test_a_caption_has_data_sizes_weights_precision_and_seed(fine_tuned, name):
    text = caption_under(resolve(PLOTS[name].function)(fine_tuned))
    assert text == (
        "CIFAR-10 (1,600 train / 100 val / 300 test) · weights imagenet · "
        "images 32 px, input 32 px · bfloat16 · seed 0"
    )


@pytest.mark.parametrize("name", PLOTS)
def test_the_caption_of_a_demonstration_on_digits_says_so(make_run, name):
    run = make_run(
        dataset="digits",
        dataset_title="digits",
        dataset_note="a demonstration, not CIFAR-10",
        stages={"train": 2},
    )
    text = caption_under(resolve(PLOTS[name].function)(run))
    assert text.startswith("digits: a demonstration, not CIFAR-10")


@pytest.mark.parametrize("name", COMPARISON_PLOTS)
def test_a_comparison_plot_has_its_caption(runs, name):
    drawn = resolve(COMPARISON_PLOTS[name].function)(compare(runs))
    assert "weights imagenet, none" in caption_under(drawn)


def test_the_stages_of_fine_tuning_are_marked(fine_tuned):
    axes = plots.accuracy_over_time(fine_tuned).axes[0]
    assert [text.get_text() for text in axes.texts] == ["top ◂", "▸ blocks"]
    assert axes.lines[-1].get_xdata()[0] == 2.5


def test_a_run_without_epochs_has_a_message_instead_of_a_curve(make_run):
    axes = plots.loss_over_time(make_run(stages={})).axes[0]
    assert axes.texts[0].get_text() == "no epochs: fitted in one step"


def test_the_confusion_matrix_has_counts_and_shares_of_each_true_class(counted):
    axes = plots.confusion_matrix(counted).axes[0]
    shares = [[75, 25, 0], [40, 40, 20], [0, 0, 100]]
    assert axes.images[0].get_array().tolist() == shares
    assert axes.images[0].get_clim() == (0, 100)
    texts = [(round(text.get_position()[1]), text.get_position()[0], text.get_text()) for text in axes.texts]
    filled = [(row, column) for (row, column), count in np.ndenumerate(COUNTS) if count]
    expected = [
        (row, column, str(table[row][column])) for row, column in filled for table in (shares, COUNTS)
    ]
    assert texts == expected
    for names in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [name.get_text() for name in names] == ["cat", "dog", "fox"]


def test_bars_of_classes_end_at_their_accuracy_with_wilsons_interval_best_on_top(counted):
    axes = plots.per_class_accuracy(counted).axes[0]
    bars, intervals = axes.containers
    assert [name.get_text() for name in axes.get_yticklabels()] == ["dog", "cat", "fox"]
    assert [bar.get_width() for bar in bars] == pytest.approx([40, 75, 100])
    recalls = class_scores(counted.split("test")).query("metric == 'recall'").set_index("class")
    for place, name in enumerate(("dog", "cat", "fox")):
        low, high = 100 * recalls.loc[name, ["low", "high"]].astype(float)
        assert bars_of(intervals)[place] == pytest.approx(np.array([[low, place], [high, place]]))
    assert [text.get_text() for text in axes.texts] == ["40.0 %", "75.0 %", "100.0 %", "overall 71.4 %"]
    overall = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert overall.get_xdata() == pytest.approx([100 * 10 / 14] * 2)


def test_accuracies_lie_at_their_values_with_their_intervals_best_on_top(runs):
    comparison = compare(runs)
    axes = plots.accuracy_with_intervals(comparison).axes[0]
    table = comparison.table.sort_values("accuracy", ignore_index=True)
    names = [
        "head:linear · imagenet · 32 px",
        "fine-tune:block5 · imagenet · 32 px",
        "from-scratch:small · 32 px",
    ]
    assert [name.get_text() for name in axes.get_yticklabels()] == names
    families = ["head on cached features", "fine-tuned", "from scratch"]
    assert list(points_of(axes)) == families
    for place, (family, row) in enumerate(zip(families, table.to_dict("records"), strict=True)):
        assert points_of(axes)[family] == pytest.approx(np.array([[100 * row["accuracy"], place]]))
        ends = [[100 * row["accuracy_low"], place], [100 * row["accuracy_high"], place]]
        assert bars_of(axes.containers[place])[0] == pytest.approx(np.array(ends))


def test_costs_lie_at_seconds_and_accuracy_and_the_front_steps_from_best_to_best(make_run):
    plan = {"head:linear": (0.001, 1.0), "head:dense": (50, 0.5), "fine-tune:whole": (700, 2.0)}
    made = [
        make_run(f"run{number}", scheme=name, total_seconds=seconds, skill=skill)
        for number, (name, (seconds, skill)) in enumerate(plan.items())
    ]
    comparison = compare(made)
    axes = plots.accuracy_against_cost(comparison).axes[0]
    linear, dense, whole = (100 * comparison.table["accuracy"]).tolist()
    assert dense < linear < whole
    points = points_of(axes)
    heads = np.array([[0.01, linear], [50, dense]])  # nothing is drawn at less than 0.01 s
    assert points["head on cached features"] == pytest.approx(heads)
    assert points["fine-tuned"] == pytest.approx(np.array([[700, whole]]))
    lows = (100 * comparison.table["accuracy_low"]).tolist()
    assert bars_of(axes.containers[0])[:, 0] == pytest.approx(np.array([[0.01, lows[0]], [50, lows[1]]]))
    front = next(line for line in axes.lines if line.get_label() == "Pareto front")
    assert front.get_xdata() == pytest.approx([0.01, 700, 700 * 2.5])
    assert front.get_ydata() == pytest.approx([linear, whole, whole])


def test_plots_of_many_classes_have_no_numbers_and_stay_small(make_run, tmp_path):
    run = make_run(class_names=[f"class {number}" for number in range(100)], n_test=1000)
    assert not plots.confusion_matrix(run).axes[0].texts
    for name in ("confusion_matrix", "per_class_accuracy"):
        publish_plots(tmp_path, {name: PLOTS[name]}, run)
        assert (tmp_path / f"{name}.png").stat().st_size < LARGEST


def test_the_pareto_front_has_the_runs_that_no_cheaper_run_matches(runs):
    table = compare(runs).table.assign(seconds=[3.0, 2.0, 1.0], accuracy=[0.8, 0.5, 0.6])
    assert plots.pareto_front(table)["seconds"].tolist() == [1.0, 3.0]


def test_labels_of_coinciding_points_do_not_overlap(make_run):
    several = [make_run(f"run{number}", scheme=f"head:{number}", total_seconds=10) for number in range(5)]
    drawn = plots.accuracy_against_cost(compare(several))
    renderer = drawn.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in drawn.axes[0].texts if text.arrow_patch is None]
    names = [box for box in boxes if box.width > 5]
    assert len(names) == 5
    overlaps = [(one, other) for one in names for other in names if one is not other and one.overlaps(other)]
    assert not overlaps


def learning_rate(run):
    drawn, axes = drawing.new_figure(plots.caption(run))
    axes.plot(run.history["epoch"], run.history["learning_rate"])
    return drawn


def test_a_plot_added_as_a_row_is_drawn(fine_tuned, tmp_path, monkeypatch):
    function = f"{__name__}:learning_rate"
    row = Plot("learning_rate", "Learning rate", function)
    monkeypatch.setitem(PLOTS, row.name, row)
    assert "learning_rate.png" in publish_plots(tmp_path, PLOTS, fine_tuned)
    assert (tmp_path / "learning_rate.png").read_bytes().startswith(PNG)


def test_an_unknown_plot_is_an_error_that_lists_the_plots():
    with pytest.raises(BadInput, match="unknown plot 'pie': expected one of accuracy_over_time"):
        PLOTS["pie"]


def test_drawing_uses_no_global_figures(fine_tuned, tmp_path):
    publish_plots(tmp_path, PLOTS, fine_tuned)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
