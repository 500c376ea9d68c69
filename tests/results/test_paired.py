"""Paired tests agree with SciPy and statsmodels, use the same images only, and control false positives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.multitest import multipletests

from pipeline.errors import BadInput
from pipeline.results.paired import (
    DIFFERENCE_COLUMNS,
    correctness_of,
    holm,
    mcnemar,
    paired_differences,
    paired_interval,
    sign_counts,
)
from pipeline.runs.result import read_run, write_predictions


def outcomes(*, both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two (1, N) bool arrays: which images a and b classify correctly."""
    groups = ((True, True, both), (True, False, only_a), (False, True, only_b), (False, False, neither))
    a = [right for right, _, count in groups for _ in range(count)]
    b = [right for _, right, count in groups for _ in range(count)]
    return np.array([a]), np.array([b])


def example_differences(seeds: int) -> np.ndarray:
    """Return differences on 2,000 images between two schemes that are 3 points apart, over so many seeds."""
    rng = np.random.default_rng(seeds)
    ease = rng.beta(4, 1, size=2_000)
    a, b = ((rng.random((seeds, 2_000)) < ease + gain).mean(axis=0) for gain in (0.03, 0.0))
    return a - b


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_agrees_with_scipys_paired_bootstrap(seeds):
    differences = example_differences(seeds)
    zeros = np.zeros_like(differences)
    expected = bootstrap(
        (differences, zeros),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        batch=500,
        rng=np.random.default_rng(1),
    ).confidence_interval
    error = differences.std() / np.sqrt(len(differences))
    # The ends of two intervals of 10,000 resamples differ by 0.04 standard errors, one standard deviation.
    assert paired_interval(differences) == pytest.approx(tuple(expected), abs=0.15 * error)


def test_the_interval_approaches_that_of_the_normal_distribution_on_many_images():
    a, b = outcomes(both=60_000, only_a=11_000, only_b=9_000, neither=20_000)
    differences = (a.astype(int) - b)[0]
    half = 1.959964 * differences.std() / np.sqrt(len(differences))
    assert paired_interval(differences) == pytest.approx((0.02 - half, 0.02 + half), abs=0.05 * half)


def test_the_interval_has_its_nominal_coverage():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        low, high = paired_interval(rng.choice([1, 0, -1], p=[0.15, 0.75, 0.10], size=400), resamples=1_000)
        covered += low <= 0.05 <= high
    assert 0.92 <= covered / 500 <= 0.98


def test_the_interval_is_deterministic_and_has_no_width_for_equal_predictions():
    differences = example_differences(1)
    assert paired_interval(differences) == paired_interval(differences)
    assert paired_interval(np.zeros(300)) == (0, 0)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (10, 2, 158 / 4096),  # 2 (1 + 12 + 66) / 2^12
        (6, 0, 2 / 64),
        (5, 5, 1.0),
        (0, 0, 1.0),
        (121, 59, 4.434e-06),  # the example in the documentation of statsmodels
    ],
)
def test_mcnemars_exact_p_value_agrees_with_arithmetic_and_statsmodels(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == pytest.approx(p, rel=1e-3)
    assert mcnemar(only_b, only_a) == mcnemar(only_a, only_b)
    expected = mcnemar_of_statsmodels([[50, only_a], [only_b, 20]], exact=True).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(expected)
    if only_a:
        assert mcnemar(only_a, only_b) == binomtest(only_a, only_a + only_b).pvalue


@pytest.mark.parametrize("count", [1, 2, 28])
def test_holms_correction_agrees_with_statsmodels(count):
    p_values = np.random.default_rng(count).random(count) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_equal_schemes_rarely_differ_significantly():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        correct = rng.random((4, 1, 300)) < 0.7  # four schemes, six pairs
        pairs = [(a, b) for a in range(4) for b in range(a)]
        wrong += min(holm([mcnemar(*sign_counts(correct[a], correct[b])) for a, b in pairs])) < 0.05
    assert wrong / 400 <= 0.05


def test_with_one_seed_the_counts_are_the_images_that_only_one_scheme_gets_right():
    a, b = outcomes(both=5, only_a=3, only_b=2, neither=1)
    assert sign_counts(a, b) == (3, 2)


def test_with_several_seeds_an_image_counts_for_the_scheme_that_is_correct_more_often():
    a = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 0, 1]], dtype=bool)
    b = np.array([[1, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
    assert sign_counts(a, b) == (2, 1)


def test_with_unequal_numbers_of_seeds_only_as_many_as_the_fewest_count():
    one, three = np.array([[True, False]]), np.array([[True, False], [False, True], [False, True]])
    assert sign_counts(one, three) == (0, 0)


def test_there_is_one_row_for_each_pair_with_the_more_accurate_scheme_first(make_run):
    skills = {"head:poor": 0.5, "head:good": 2.5, "head:fair": 1.5}
    runs = [make_run(name[5:], scheme=name, skill=skill) for name, skill in skills.items()]
    table = paired_differences(runs)
    assert tuple(table.columns) == DIFFERENCE_COLUMNS
    pairs = [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    assert [(a[5:], b[5:]) for a, b in zip(table["scheme_a"], table["scheme_b"], strict=True)] == pairs
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()
    gain = (table["only_a_right"] - table["only_b_right"]) / table["n"]
    assert gain.tolist() == pytest.approx(table["difference"].tolist())
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"]))
    assert table["real"].all()
    assert paired_differences(runs).equals(table)


def test_seeds_are_grouped_by_scheme_and_their_accuracies_averaged(make_run):
    runs = [make_run(f"{scheme}{seed}", scheme=scheme, seed=seed) for scheme in "ab" for seed in range(3)]
    (row,) = paired_differences(runs).to_dict("records")
    accuracies = [correct.mean() for correct in correctness_of(runs).values()]
    assert sorted(accuracies, reverse=True) == [row["accuracy_a"], row["accuracy_b"]]
    assert (row["seeds_a"], row["seeds_b"], row["n"]) == (3, 3, 300)
    assert not row["real"]
    assert row["low"] <= 0 <= row["high"]


def test_there_are_no_pairs_for_one_scheme(make_run):
    table = paired_differences([make_run("a")])
    assert table.empty
    assert list(table.columns) == list(DIFFERENCE_COLUMNS)


def test_images_are_matched_by_identity_not_by_position(make_run, refinish):
    runs = [make_run("a"), make_run("b", scheme="head:dense", skill=2.0)]
    shuffled = np.random.default_rng(0).permutation(400)
    changed = rewrite(
        runs[1], refinish, lambda stored: {name: rows[shuffled] for name, rows in stored.items()}
    )
    assert paired_differences([runs[0], changed]).equals(paired_differences(runs))


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("index", lambda values: values + 1, "different index for 300 images, e.g. 101 instead of 100"),
        ("names", lambda values: [*values[:-1], "x.png"], "different names for 1 images, e.g. x.png instead"),
        ("labels", lambda values: np.roll(values, 1), "different labels for 300 images"),
    ],
)
def test_comparing_runs_on_different_images_is_an_error(make_run, refinish, field, change, message):
    runs = [make_run("a"), make_run("b", scheme="head:dense")]
    changed = rewrite(runs[1], refinish, lambda stored: {**stored, field: change(stored[field])})
    with pytest.raises(BadInput, match=f"{changed.folder}: expected the test images of .*{message}"):
        paired_differences([runs[0], changed])


def test_comparing_runs_on_different_numbers_of_images_is_an_error(make_run):
    runs = [make_run("a"), make_run("b", scheme="head:dense", n_test=200)]
    with pytest.raises(
        BadInput, match="received 200 images instead of 300; compare runs of the same data set"
    ):
        paired_differences(runs)


def rewrite(run, refinish, change):
    """Change the stored predictions of run and read it again."""
    parts = [run.split(name) for name in ("val", "test")]
    stored = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("index", "names", "labels", "probabilities")
    }
    stored["split"] = np.repeat([1, 2], [len(part) for part in parts])
    write_predictions(run.folder / "predictions.h5", **change(stored))
    return read_run(refinish(run.folder))
