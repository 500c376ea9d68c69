"""Scores agree with scikit-learn, SciPy and arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import binomtest

from pipeline.errors import BadInput
from pipeline.extensions import resolve
from pipeline.results import scores
from pipeline.results.scores import metric_table, wilson_interval
from pipeline.results.table import CLASS_SCORES, SCORES, Score
from pipeline.runs.result import Predictions


@pytest.fixture
def random_split() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.dirichlet([0.4] * 5, size=400).astype(np.float32), rng.integers(0, 5, size=400)


def as_predictions(probabilities, labels) -> Predictions:
    n, classes = np.shape(probabilities)
    return Predictions(
        index=np.arange(n),
        names=np.array([f"{number}.png" for number in range(n)]),
        labels=np.asarray(labels),
        probabilities=np.asarray(probabilities, dtype=np.float32),
        class_names=tuple(f"class {number}" for number in range(classes)),
    )


def test_accuracy_and_macro_f1_agree_with_scikit_learn(random_split):
    probabilities, labels = random_split
    predicted = probabilities.argmax(axis=1)
    assert scores.accuracy(probabilities, labels) == sklearn.metrics.accuracy_score(labels, predicted)
    expected = sklearn.metrics.f1_score(labels, predicted, average="macro")
    assert scores.macro_f1(probabilities, labels) == pytest.approx(expected)


def test_balanced_accuracy_agrees_with_scikit_learn_and_leaves_out_classes_without_images(random_split):
    probabilities, labels = random_split
    for kept in (labels >= 0, (labels != 2) & (np.arange(400) % 7 < labels + 1)):
        predicted = probabilities[kept][:, [0, 1, 3, 4]].argmax(axis=1)
        some = np.insert(np.eye(4, dtype=np.float32)[predicted], 2, 0, axis=1)
        expected = sklearn.metrics.balanced_accuracy_score(labels[kept], some.argmax(axis=1))
        assert scores.balanced_accuracy(some, labels[kept]) == pytest.approx(expected)
    assert scores.balanced_accuracy(probabilities, labels) != scores.accuracy(probabilities, labels)


def test_log_loss_agrees_with_scikit_learn(random_split):
    probabilities, labels = random_split
    clipped = probabilities.astype(np.float64).clip(1e-7, 1)
    expected = sklearn.metrics.log_loss(labels, clipped / clipped.sum(axis=1, keepdims=True))
    assert scores.log_loss(probabilities, labels) == pytest.approx(expected, rel=1e-5)


def test_a_mistake_with_certainty_has_a_finite_log_loss():
    assert scores.log_loss(np.array([[1.0, 0.0]], np.float32), np.array([1])) == pytest.approx(
        -math.log(1e-7)
    )


def test_calibration_error_agrees_with_arithmetic_by_hand():
    # Two of four are correct at confidence 0.9 (gap 0.4); one of one at 0.55 (gap 0.45).
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.55, 0.45]])
    labels = np.array([0, 0, 1, 1, 0])
    assert scores.calibration_error(probabilities, labels) == pytest.approx((4 * 0.4 + 1 * 0.45) / 5)


def test_calibration_error_is_zero_for_certain_and_correct_predictions():
    assert scores.calibration_error(np.eye(4, dtype=np.float32), np.arange(4)) == 0


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_class_scores_agree_with_scikit_learn(random_split, name):
    probabilities, labels = random_split
    expected = getattr(sklearn.metrics, f"{name}_score")(labels, probabilities.argmax(axis=1), average=None)
    np.testing.assert_allclose(resolve(CLASS_SCORES[name].function)(probabilities, labels), expected)


def test_a_class_without_images_has_no_share_and_support_zero():
    table = scores.class_scores(as_predictions(np.eye(3)[[0, 1]], [0, 1])).set_index(["class", "metric"])
    assert math.isnan(table.loc[("class 2", "recall"), "value"])
    assert table.loc[("class 2", "support"), "value"] == 0
    assert math.isnan(table.loc[("class 2", "recall"), "low"])
    assert table.loc[("class 0", "recall"), "high"] == 1


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (37, 50), (6123, 10_000)])
def test_wilson_interval_agrees_with_scipy(correct, n):
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_an_error(correct, n):
    with pytest.raises(BadInput, match=f"correct={correct}, n={n}"):
        wilson_interval(correct, n)


def test_score_has_every_score_the_interval_and_n(random_split):
    result = scores.score(as_predictions(*random_split))
    assert set(result) == {*SCORES, "accuracy_low", "accuracy_high", "n"}
    assert result["n"] == 400
    assert result["accuracy_low"] < result["accuracy"] < result["accuracy_high"]


def test_scoring_no_images_is_an_error():
    with pytest.raises(BadInput, match="at least one image"):
        scores.score(as_predictions(np.empty((0, 3)), np.empty(0, int)))


def test_the_metric_table_is_long_and_complete(make_run):
    table = metric_table(make_run())
    assert list(table.columns) == ["split", "class", "metric", "value", "low", "high"]
    assert len(table) == 2 * (len(SCORES) + 10 * len(CLASS_SCORES))
    assert not table.duplicated(["split", "class", "metric"]).any()
    accuracy = table.query("metric == 'accuracy' and split == 'test'").iloc[0]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]


def test_an_empty_val_is_left_out_of_the_tables(make_run):
    run = make_run(n_val=0)
    assert set(metric_table(run)["split"]) == {"test"}
    assert "| score | test |" in scores.metrics_markdown(run)


def test_the_markdown_title_has_scheme_data_weights_precision_and_seed(make_run):
    title = scores.metrics_markdown(make_run(seed=3)).splitlines()[0]
    facts = (
        "head:linear",
        "CIFAR-10",
        "1,600 train / 100 val / 300 test",
        "weights imagenet",
        "bfloat16",
        "seed 3",
    )
    assert all(fact in title for fact in facts)


def test_a_pipe_in_a_class_name_does_not_break_the_table(make_run):
    text = scores.metrics_markdown(make_run(class_names=["a|b", "c"]))
    assert "| a\\|b |" in text


def top_two(probabilities, labels):
    return float((np.argsort(-probabilities, axis=1)[:, :2] == labels[:, None]).any(axis=1).mean())


def predicted(probabilities, labels):
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def test_a_score_added_as_a_row_appears_in_the_tables(make_run, monkeypatch):
    new_score = Score("top_two", "top-2 accuracy", f"{__name__}:top_two", unit="%", share=True)
    monkeypatch.setitem(SCORES, "top_two", new_score)
    new_class_score = Score("predicted", "predicted images", f"{__name__}:predicted", unit="count")
    monkeypatch.setitem(CLASS_SCORES, "predicted", new_class_score)
    run = make_run()
    row = metric_table(run).query("metric == 'top_two' and split == 'test'").iloc[0]
    assert row["low"] < row["value"] < row["high"]
    text = scores.metrics_markdown(run)
    assert "| top-2 accuracy | " in text
    assert "| predicted images |" in text
