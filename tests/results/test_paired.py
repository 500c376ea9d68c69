"""Pairs are compared as SciPy and statsmodels would, on the same images only, and never by chance alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.multitest import multipletests

from pipeline.errors import BadInput
from pipeline.results.paired import (
    DIFFERENCE_COLUMNS,
    hits_of,
    holm,
    mcnemar,
    paired_differences,
    paired_interval,
    sign_counts,
)
from pipeline.runs.result import read_run, write_predictions


def answers(*, both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (1, N) bool twice: who is right on which image."""
    groups = ((True, True, both), (True, False, only_a), (False, True, only_b), (False, False, neither))
    a = [right for right, _, count in groups for _ in range(count)]
    b = [right for _, right, count in groups for _ in range(count)]
    return np.array([a]), np.array([b])


def known_case(seeds: int) -> np.ndarray:
    """Return differences on 2,000 images between two schemes of so many seeds, 3 points apart."""
    rng = np.random.default_rng(seeds)
    ease = rng.beta(4, 1, size=2_000)
    a, b = ((rng.random((seeds, 2_000)) < ease + gain).mean(axis=0) for gain in (0.03, 0.0))
    return a - b


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_is_that_of_scipys_paired_bootstrap(seeds):
    differences = known_case(seeds)
    zeros = np.zeros_like(differences)
    theirs = bootstrap(
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
    assert paired_interval(differences) == pytest.approx(tuple(theirs), abs=0.15 * error)


def test_the_interval_is_that_of_the_normal_distribution_where_there_are_many_images():
    a, b = answers(both=60_000, only_a=11_000, only_b=9_000, neither=20_000)
    differences = (a.astype(int) - b)[0]
    half = 1.959964 * differences.std() / np.sqrt(len(differences))
    assert paired_interval(differences) == pytest.approx((0.02 - half, 0.02 + half), abs=0.05 * half)


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        low, high = paired_interval(rng.choice([1, 0, -1], p=[0.15, 0.75, 0.10], size=400), resamples=1_000)
        covered += low <= 0.05 <= high
    assert 0.92 <= covered / 500 <= 0.98


def test_the_same_differences_give_the_same_interval_and_equal_answers_one_of_no_width():
    differences = known_case(1)
    assert paired_interval(differences) == paired_interval(differences)
    assert paired_interval(np.zeros(300)) == (0, 0)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (10, 2, 158 / 4096),  # 2 (1 + 12 + 66) / 2^12
        (6, 0, 2 / 64),
        (5, 5, 1.0),
        (0, 0, 1.0),
        (121, 59, 4.434e-06),  # the example of statsmodels' documentation
    ],
)
def test_mcnemars_exact_p_is_that_of_the_books_and_of_the_libraries(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == pytest.approx(p, rel=1e-3)
    assert mcnemar(only_b, only_a) == mcnemar(only_a, only_b)
    theirs = mcnemar_of_statsmodels([[50, only_a], [only_b, 20]], exact=True).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(theirs)
    if only_a:
        assert mcnemar(only_a, only_b) == binomtest(only_a, only_a + only_b).pvalue


@pytest.mark.parametrize("count", [1, 2, 28])
def test_holms_correction_is_that_of_statsmodels(count):
    p_values = np.random.default_rng(count).random(count) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_schemes_that_do_not_differ_are_rarely_called_different():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        right = rng.random((4, 1, 300)) < 0.7  # four schemes, six pairs
        pairs = [(a, b) for a in range(4) for b in range(a)]
        wrong += min(holm([mcnemar(*sign_counts(right[a], right[b])) for a, b in pairs])) < 0.05
    assert wrong / 400 <= 0.05


def test_with_one_seed_the_counts_are_the_images_that_only_one_is_right_on():
    a, b = answers(both=5, only_a=3, only_b=2, neither=1)
    assert sign_counts(a, b) == (3, 2)


def test_with_several_seeds_an_image_counts_for_whoever_is_right_more_often():
    a = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 0, 1]], dtype=bool)
    b = np.array([[1, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
    assert sign_counts(a, b) == (2, 1)


def test_with_unequal_numbers_of_seeds_as_many_of_each_are_counted():
    one, three = np.array([[True, False]]), np.array([[True, False], [False, True], [False, True]])
    assert sign_counts(one, three) == (0, 0)


def test_there_is_one_row_a_pair_the_more_accurate_scheme_first(make_run):
    skills = {"head:poor": 0.5, "head:good": 2.5, "head:fair": 1.5}
    runs = [make_run(name[5:], scheme=name, skill=skill) for name, skill in skills.items()]
    table = paired_differences(runs)
    assert tuple(table.columns) == DIFFERENCE_COLUMNS
    pairs = [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    assert [(a[5:], b[5:]) for a, b in zip(table["scheme_a"], table["scheme_b"], strict=True)] == pairs
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()
    gained = (table["only_a_right"] - table["only_b_right"]) / table["n"]
    assert gained.tolist() == pytest.approx(table["difference"].tolist())
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"]))
    assert table["real"].all()
    assert paired_differences(runs).equals(table)


def test_the_seeds_of_a_scheme_are_one_scheme_and_its_accuracy_their_mean(make_run):
    runs = [make_run(f"{scheme}{seed}", scheme=scheme, seed=seed) for scheme in "ab" for seed in range(3)]
    (row,) = paired_differences(runs).to_dict("records")
    ours = [hits.accuracy for hits in hits_of(runs)]
    assert sorted(ours, reverse=True) == [row["accuracy_a"], row["accuracy_b"]]
    assert (row["seeds_a"], row["seeds_b"], row["n"]) == (3, 3, 300)
    assert not row["real"]
    assert row["low"] <= 0 <= row["high"]


def test_one_scheme_has_no_pair_and_neither_have_schemes_on_different_data(make_run):
    on_digits = {"dataset": "digits", "dataset_title": "digits", "n_test": 200}
    runs = [make_run("a"), make_run("b", scheme="head:dense", **on_digits)]
    assert paired_differences(runs[:1]).empty
    assert list(paired_differences(runs).columns) == list(DIFFERENCE_COLUMNS)
    assert paired_differences(runs).empty


def test_each_data_set_is_corrected_for_its_own_pairs(make_run):
    on_digits = {"dataset": "digits", "dataset_title": "digits"}
    runs = [make_run(f"a{name}", scheme=name, skill=len(name)) for name in ("x", "xx", "xxx")]
    runs += [make_run(f"b{name}", scheme=name, skill=len(name) / 2, **on_digits) for name in ("x", "xx")]
    table = paired_differences(runs)
    assert table["data_set"].tolist() == ["CIFAR-10"] * 3 + ["digits"]
    assert table["p_holm"].iloc[-1] == table["p"].iloc[-1]


def test_images_are_matched_by_identity_whatever_their_order(make_run, refinish):
    runs = [make_run("a"), make_run("b", scheme="head:dense", skill=2.0)]
    shuffled = np.random.default_rng(0).permutation(400)
    changed = rewrite(
        runs[1], refinish, lambda stored: {name: rows[shuffled] for name, rows in stored.items()}
    )
    assert paired_differences([runs[0], changed]).equals(paired_differences(runs))


@pytest.mark.parametrize(
    ("field", "change", "words"),
    [
        ("index", lambda values: values + 1, "another index for 300 images, such as 101 instead of 100"),
        ("names", lambda values: [*values[:-1], "x.png"], "another name for 1 images, such as x.png instead"),
        ("labels", lambda values: np.roll(values, 1), "another label for 300 images"),
    ],
)
def test_runs_on_other_images_are_refused(make_run, refinish, field, change, words):
    runs = [make_run("a"), make_run("b", scheme="head:dense")]
    changed = rewrite(runs[1], refinish, lambda stored: {**stored, field: change(stored[field])})
    with pytest.raises(BadInput, match=f"{changed.folder}: expected the test images of .*{words}"):
        paired_differences([runs[0], changed])


def test_runs_on_other_numbers_of_images_are_refused(make_run):
    runs = [make_run("a"), make_run("b", scheme="head:dense", n_test=200)]
    with pytest.raises(BadInput, match="found 200 images instead of 300; compare runs of the same data set"):
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
