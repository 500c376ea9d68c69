"""Label efficiency runs from the command line to one table and one picture of all schemes."""

from __future__ import annotations

import pandas as pd
import pytest
from small_graphs import LITTLE, build, hits_of

from pipeline.errors import BadInput
from pipeline.recipes.presets import PRESETS
from pipeline.runs.result import read_run
from tasks import CompareSchemes, HeadCurve, LabelEfficiency, TrainFromScratch
from tasks.label_efficiency import texts_of

DIGITS = {"dataset": "digits", "subset": 200, "weights": "random", "precision": "float32"}
SMALL = {"filters": (4,), "units": (8,), "epochs": 2, "batch_size": 16}


def test_every_budget_has_its_draws_and_all_labels_have_one():
    assert texts_of("5%, 2/class,100%", 3) == [
        "5%",
        "5%#1",
        "5%#2",
        "2/class",
        "2/class#1",
        "2/class#2",
        "100%",
    ]


@pytest.mark.parametrize(("budgets", "words"), [("", "at least one"), ("5%#1", "no draw"), ("5", "a share")])
def test_budgets_that_cannot_be_read_are_refused(budgets, words):
    with pytest.raises(BadInput, match=words):
        LabelEfficiency(budgets=budgets, **DIGITS)


def test_settings_of_a_scheme_that_is_not_shown_are_refused():
    with pytest.raises(BadInput, match="expected settings of the schemes head:ridge"):
        LabelEfficiency(schemes="head:ridge", settings={"head:linear": {"epochs": 1}}, **DIGITS)


@pytest.mark.slow
def test_heads_and_networks_end_on_one_axis_and_nothing_is_done_twice(data_folder):
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
    hits = [hits_of(run.folder) for scheme, _, run in task.parts if scheme == "from-scratch:lesson"]
    assert sorted(trained["accuracy"]) == pytest.approx(sorted(right / n for right, n in hits))
    assert (task.folder / "labels.png").stat().st_size > 5_000
    assert "2/class" in (task.folder / "labels.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}
    assert build(LabelEfficiency(**task.param_kwargs))
    assert before == {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_run_on_few_labels_is_stretched_and_says_how_many_it_saw(data_folder):
    shared = {"dataset": "digits", "subset": 200, "precision": "float32", **SMALL}
    task = TrainFromScratch(label_budget="25%#1", stretch=True, **shared)
    assert build(task)
    run = read_run(task.folder)
    assert run.recipe["n_train"] == 35
    assert run.recipe["epochs"] == 4  # 2 / sqrt(35 / 140)


@pytest.mark.slow
def test_a_head_on_all_labels_equals_the_head_that_is_trained_alone(data_folder):
    """The curve's last point and TrainHead: the same penalty, the same images, the same answers."""
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
def test_comparison_of_the_same_data_shows_them_and_is_made_again_for_them(data_folder, monkeypatch):
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
    assert build(LabelEfficiency(**shared, **DIGITS))  # of another subset: not shown here
    assert comparison.complete()
