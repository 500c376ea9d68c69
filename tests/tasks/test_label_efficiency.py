"""Label efficiency of all schemes ends in one table and one plot."""

from __future__ import annotations

import pandas as pd
import pytest
from small_graphs import LITTLE, build, hits_of

from pipeline.errors import BadInput
from pipeline.recipes.presets import PRESETS
from pipeline.runs.result import read_run
from tasks import CompareSchemes, FineTune, HeadCurve, LabelEfficiency, TrainFromScratch
from tasks.label_efficiency import expand_budgets

DIGITS = {"dataset": "digits", "subset": 200, "weights": "random", "precision": "float32"}
SMALL = {"filters": (4,), "units": (8,), "epochs": 2, "batch_size": 16}


def test_each_budget_has_several_draws_and_all_labels_have_one():
    assert expand_budgets("5%, 2/class,100%", 3) == [
        "5%",
        "5%#1",
        "5%#2",
        "2/class",
        "2/class#1",
        "2/class#2",
        "100%",
    ]


@pytest.mark.parametrize(
    ("budgets", "message"), [("", "at least one"), ("5%#1", "no draw"), ("5", "a share")]
)
def test_malformed_budgets_are_rejected(budgets, message):
    with pytest.raises(BadInput, match=message):
        LabelEfficiency(budgets=budgets, **DIGITS)


def test_settings_of_a_scheme_that_is_not_listed_are_rejected():
    with pytest.raises(BadInput, match="expected settings of the schemes head:ridge"):
        LabelEfficiency(schemes="head:ridge", settings={"head:linear": {"epochs": 1}}, **DIGITS)


def test_a_run_on_all_labels_is_the_run_of_the_recipe_and_scratch_networks_keep_the_size_of_the_images():
    task = LabelEfficiency(
        schemes="fine-tune:block5,from-scratch:lesson", budgets="5%,100%", draws=1, input_size=64, **DIGITS
    )
    few, whole, few_from_scratch, from_scratch = (run for _, _, run in task.shown)
    assert whole.folder == FineTune(recipe="block5", input_size=64, **DIGITS).folder
    own = {"dataset": "digits", "subset": 200, "precision": "float32"}
    assert from_scratch.folder == TrainFromScratch(recipe="lesson", input_size=32, **own).folder
    assert (few.pixels, few_from_scratch.pixels) == (64, 32)
    assert (few.resolved.stretch, few.resolved.label_budget) == (True, "5%")


@pytest.mark.slow
def test_heads_and_networks_share_one_table_and_nothing_is_repeated(data_folder):
    task = LabelEfficiency(
        schemes="head:ridge,from-scratch:lesson",
        settings={"head:ridge": {"layers": ["block1_pool"]}, "from-scratch:lesson": SMALL},
        budgets="2/class,25%,100%",
        draws=2,
        **DIGITS,
    )
    assert build(task)
    table = pd.read_csv(task.folder / "labels.csv")
    assert table.groupby("scheme").size().to_dict() == {"from-scratch:lesson": 5, "head:ridge": 5}
    for _, rows in table.groupby("scheme"):
        assert rows["n_train"].tolist() == [20, 20, 35, 35, 140]
        assert rows["accuracy"].between(0, 1).all()
    trained = table[table["scheme"] == "from-scratch:lesson"]
    hits = [hits_of(run.folder) for scheme, _, run in task.shown if scheme == "from-scratch:lesson"]
    assert sorted(trained["accuracy"]) == pytest.approx(sorted(right / n for right, n in hits))
    assert (task.folder / "labels.png").stat().st_size > 5_000
    assert "2/class" in (task.folder / "labels.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}
    assert build(LabelEfficiency(**task.param_kwargs))
    assert before == {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_run_on_few_labels_trains_longer_and_stores_how_many_it_used(data_folder):
    shared = {"dataset": "digits", "subset": 200, "precision": "float32", **SMALL}
    task = TrainFromScratch(label_budget="25%#1", stretch=True, **shared)
    assert build(task)
    run = read_run(task.folder)
    assert run.recipe["n_train"] == 35
    assert run.recipe["epochs"] == 4  # 2 / sqrt(35 / 140)


@pytest.mark.slow
def test_the_last_point_of_a_curve_equals_the_head_trained_on_all_labels(data_folder):
    """HeadCurve and TrainHead with the same penalty and images have the same accuracy."""
    from tasks import TrainHead

    shared = {**DIGITS, "recipe": "ridge", "layers": ("block1_pool",)}
    curve = HeadCurve(budgets="100%", draws=1, **shared)
    assert build(curve)
    row = pd.read_csv(curve.folder / "curve.csv").iloc[0]
    alpha = float(row["chosen"].removeprefix("alpha="))
    alone = TrainHead(alpha=alpha, **shared)
    assert build(alone)
    test = read_run(alone.folder).split("test")
    assert row["accuracy"] == pytest.approx((test.probabilities.argmax(axis=1) == test.labels).mean())


@pytest.mark.slow
def test_a_comparison_on_the_same_data_includes_label_efficiency_and_is_made_again(data_folder, monkeypatch):
    monkeypatch.setitem(PRESETS, LITTLE.name, LITTLE)
    comparison = CompareSchemes(preset=LITTLE.name, precision="float32")
    assert build(comparison)
    assert 'id="labels"' not in (comparison.folder / "index.html").read_text()
    shared = {"schemes": "head:ridge", "budgets": "2/class,100%", "draws": 1}
    shared["settings"] = {"head:ridge": {"layers": ["block1_pool"]}}
    assert build(LabelEfficiency(**shared, **{**DIGITS, "subset": LITTLE.subset}))
    assert not comparison.complete()
    assert build(comparison)
    assert 'id="labels"' in (comparison.folder / "index.html").read_text()
    assert build(LabelEfficiency(**shared, **DIGITS))  # another subset, so it is not included
    assert comparison.complete()
