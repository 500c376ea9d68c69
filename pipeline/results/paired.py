"""Paired comparison of schemes on the same test images: size and significance of their differences.

An image is equally hard for all schemes, so a paired test detects differences that two separate intervals
cannot. Everything here is computed from stored predictions and is deterministic.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Correctness:
    """Which test images the runs of one scheme classify correctly: correct is (S, N) bool, a row per seed."""

    scheme: str
    weights: str
    input_size: int
    correct: np.ndarray

    @property
    def accuracy(self) -> float:
        """The mean accuracy of the S runs, a fraction in 0..1."""
        return float(self.correct.mean())


def paired_differences(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Return one row for each pair of schemes of a data set, with DIFFERENCE_COLUMNS.

    Runs with the same scheme, weights and input size are the seeds of one scheme. a is the more accurate
    scheme (in a tie, the first one), and pairs are sorted by accuracy. Accuracies are means over seeds;
    difference is a - b, with low and high from paired_interval, all fractions. n is the number of images;
    only_a_right and only_b_right are the sign_counts that mcnemar tests. p_holm is corrected over the pairs
    of the data set. real means significant: p_holm is below ALPHA and low..high excludes 0.
    Raises BadInput if runs of one data set were not tested on the same images.
    """
    rows = []
    for title in dict.fromkeys(run.recipe["dataset_title"] for run in runs):
        schemes = correctness_of([run for run in runs if run.recipe["dataset_title"] == title])
        ranked = sorted(schemes, key=lambda scheme: -scheme.accuracy)
        pairs = [_pair(a, b) for a, b in itertools.combinations(ranked, 2)]
        for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            significant = p < ALPHA and not pair["low"] <= 0 <= pair["high"]
            rows.append({"data_set": title, **pair, "p_holm": p, "real": significant})
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


def correctness_of(runs: Sequence[RunResult]) -> list[Correctness]:
    """Return the correctness of each scheme, in the order given; column i is the same image in all of them.

    The predicted class is the most probable one, the first in a tie. Raises BadInput if two runs differ in
    the index, name or label of any test image.
    """
    schemes: dict[tuple[Any, ...], list[np.ndarray]] = {}
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
    return [
        Correctness(**dict(zip(LABELED, names, strict=True)), correct=np.stack(seeds))
        for names, seeds in schemes.items()
    ]


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
    right. Only the first min(S, T) seeds of each count: the test needs exchangeable counts, which takes
    equal numbers of seeds.
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


def _pair(a: Correctness, b: Correctness) -> dict[str, Any]:
    low, high = paired_interval(a.correct.mean(axis=0) - b.correct.mean(axis=0))
    only_a, only_b = sign_counts(a.correct, b.correct)
    return {
        **{f"{name}_a": getattr(a, name) for name in LABELED},
        **{f"{name}_b": getattr(b, name) for name in LABELED},
        **{"n": a.correct.shape[1], "seeds_a": len(a.correct), "seeds_b": len(b.correct)},
        **{"accuracy_a": a.accuracy, "accuracy_b": b.accuracy, "difference": a.accuracy - b.accuracy},
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
