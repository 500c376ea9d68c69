"""Paired comparison of schemes on the same test images: size and significance of their differences.

An image is equally hard for all schemes, so a paired test detects differences that two separate intervals
cannot. Everything here is computed from stored predictions and is deterministic.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from pipeline.errors import BadInput
from pipeline.results.scores import CONFIDENCE
from pipeline.runs.result import LABELED, RunResult

RESAMPLES = 10_000  # the default of scipy.stats.bootstrap: the ends vary by about 1 % of the interval's width
BOOTSTRAP_SEED = 0
ALPHA = 1 - CONFIDENCE  # significance level: the familywise error rate of the tests
DIFFERENCE_COLUMNS = (
    "data_set", "scheme_a", "weights_a", "input_size_a", "scheme_b", "weights_b", "input_size_b",
    "n", "seeds_a", "seeds_b",
    "accuracy_a", "accuracy_b", "difference", "low", "high", "only_a_right", "only_b_right",
    "p", "p_holm", "real",
)  # fmt: skip

Scheme = tuple[Any, ...]  # the values of LABELED


def paired_differences(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Return one row for each pair of schemes, with DIFFERENCE_COLUMNS.

    Runs with the same scheme, weights and input size are the seeds of one scheme. a is the more accurate
    scheme (in a tie, the first one), and pairs are sorted by accuracy. Accuracies are means over seeds;
    difference is a - b, with low and high from paired_interval, all fractions. n is the number of images;
    only_a_right and only_b_right are the sign_counts that mcnemar tests. p_holm is corrected over all pairs.
    real means significant: p_holm is below ALPHA and low..high excludes 0.
    Raises BadInput if the runs were not tested on the same images.
    """
    ranked = sorted(correctness_of(runs).items(), key=lambda scheme: -scheme[1].mean())
    pairs = [_pair(a, b) for a, b in itertools.combinations(ranked, 2)]
    for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        significant = p < ALPHA and not pair["low"] <= 0 <= pair["high"]
        pair |= {"data_set": runs[0].recipe["dataset_title"], "p_holm": p, "real": significant}
    return pd.DataFrame(pairs, columns=list(DIFFERENCE_COLUMNS))


def correctness_of(runs: Sequence[RunResult]) -> dict[Scheme, np.ndarray]:
    """Return which test images each scheme classifies correctly: (S, N) bool, a row for each of its S seeds.

    Column i is the same image in all of them. The predicted class is the most probable one, the first in a
    tie. Raises BadInput if two runs differ in the index, name or label of any test image.
    """
    schemes: dict[Scheme, list[np.ndarray]] = {}
    first = _test_predictions(runs[0])
    for run in runs:
        test = _test_predictions(run)
        if fault := _mismatch(first, test):
            raise BadInput(
                f"{run.folder}: expected the test images of {runs[0].folder}, received {fault}; "
                "compare runs of the same data set, subset and split seed"
            )
        correct = test["probabilities"].argmax(axis=1) == test["labels"]
        schemes.setdefault(tuple(run.recipe[name] for name in LABELED), []).append(correct)
    return {scheme: np.stack(seeds) for scheme, seeds in schemes.items()}


def paired_interval(differences: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the bootstrap percentile interval (low, high) of the mean of differences, (N,), one per image.

    Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. In a resample of N images, the
    counts of the distinct differences are multinomial. Drawing the counts gives the same distribution, in
    time that does not grow with N. The interval covers the choice of test images, not the training.
    """
    values, counts = np.unique(differences, return_counts=True)
    n = len(differences)
    generator = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
    resampled = generator.multinomial(n, counts / n, size=resamples)
    low, high = np.quantile(resampled @ values / n, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)


def sign_counts(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Return on how many images a is correct with more seeds than b, and b with more seeds than a.

    a and b are (S, N) and (T, N) bool. With one seed each, these are the images that only one of them gets
    right. Only the first min(S, T) seeds of each count, since exchangeable counts take equally many seeds.
    """
    seeds = min(len(a), len(b))
    lead = a[:seeds].sum(axis=0, dtype=int) - b[:seeds].sum(axis=0, dtype=int)
    return int((lead > 0).sum()), int((lead < 0).sum())


def mcnemar(only_a_right: int, only_b_right: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: the counts are Binomial(n, 0.5) under the null.

    McNemar, Psychometrika 12 (1947), with the exact binomial distribution instead of its approximation; 1 if
    the two never differ. On counts over several seeds this is the sign test, of which McNemar's is a case.
    """
    disagreements = only_a_right + only_b_right
    return float(binomtest(only_a_right, disagreements, 0.5).pvalue) if disagreements else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests, in the order given, by Holm's step-down method.

    The i-th smallest of m (from 0) is multiplied by m - i, made no smaller than the one before it, and
    clipped at 1. Rejecting those below ALPHA keeps the familywise error rate at ALPHA, under any dependence
    between the tests. Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    p = np.asarray(p_values, dtype=float)
    ascending = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[ascending] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return adjusted[np.argsort(ascending)].tolist()


def _pair(a: tuple[Scheme, np.ndarray], b: tuple[Scheme, np.ndarray]) -> dict[str, Any]:
    (scheme_a, correct_a), (scheme_b, correct_b) = a, b
    accuracy_a, accuracy_b = float(correct_a.mean()), float(correct_b.mean())
    low, high = paired_interval(correct_a.mean(axis=0) - correct_b.mean(axis=0))
    only_a, only_b = sign_counts(correct_a, correct_b)
    return {
        **{f"{name}_a": value for name, value in zip(LABELED, scheme_a, strict=True)},
        **{f"{name}_b": value for name, value in zip(LABELED, scheme_b, strict=True)},
        **{"n": correct_a.shape[1], "seeds_a": len(correct_a), "seeds_b": len(correct_b)},
        **{"accuracy_a": accuracy_a, "accuracy_b": accuracy_b, "difference": accuracy_a - accuracy_b},
        **{"low": low, "high": high, "only_a_right": only_a, "only_b_right": only_b},
        "p": mcnemar(only_a, only_b),
    }


def _test_predictions(run: RunResult) -> dict[str, np.ndarray]:
    """Return the columns of a run's predictions on test, sorted by image index."""
    test = run.split("test")
    rows = np.argsort(test.index, kind="stable")
    return {name: getattr(test, name)[rows] for name in ("index", "names", "labels", "probabilities")}


def _mismatch(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> str | None:
    """Return a description of how two sorted sets of images differ, or None if they do not."""
    if len(expected["index"]) != len(actual["index"]):
        return f"{len(actual['index']):,} images instead of {len(expected['index']):,}"
    for field in ("index", "names", "labels"):
        if (rows := np.flatnonzero(expected[field] != actual[field])).size:
            example = f"{actual[field][rows[0]]} instead of {expected[field][rows[0]]}"
            return f"different {field} for {len(rows):,} images, e.g. {example}"
    return None
