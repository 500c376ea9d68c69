"""Schemes compared on the same test images: by how much they differ, and whether chance explains it.

One image is as hard for one scheme as for another, so pairs of answers tell apart what two separate
intervals cannot. Everything here starts from stored predictions and gives the same numbers each time.
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
from pipeline.runs.result import RunResult

RESAMPLES = 10_000  # as scipy.stats.bootstrap has it: the ends settle to about 1 % of the interval's width
BOOTSTRAP_SEED = 0
LEVEL = 1 - CONFIDENCE  # of the tests: the chance to call anything real where nothing is
DIFFERENCE_COLUMNS = (
    "data_set", "scheme_a", "weights_a", "scheme_b", "weights_b", "n", "seeds_a", "seeds_b",
    "accuracy_a", "accuracy_b", "difference", "low", "high", "only_a_right", "only_b_right",
    "p", "p_holm", "real",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Hits:
    """Which test images the runs of one scheme are right on: right is (S, N) bool, a row a seed."""

    scheme: str
    weights: str
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        """The mean accuracy of the S runs, a fraction in 0..1."""
        return float(self.right.mean())


def paired_differences(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Return one row for each two schemes of a data set, with DIFFERENCE_COLUMNS; no rows for one scheme.

    A scheme is a scheme with its weights; its runs are its seeds. a is the more accurate one (of equals, the
    one given first), and the pairs come in the order of accuracy. Accuracies are means over seeds,
    difference is a - b with low and high from paired_interval: fractions. n counts images; only_a_right and
    only_b_right, which sign_counts defines, are what mcnemar tests. p_holm corrects over the pairs of the
    data set. A difference is real where p_holm is below LEVEL and low..high leaves 0 out.
    Raises BadInput when runs of one data set were not tested on the same images.
    """
    rows = []
    for title in dict.fromkeys(run.recipe["dataset_title"] for run in runs):
        schemes = hits_of([run for run in runs if run.recipe["dataset_title"] == title])
        ranked = sorted(schemes, key=lambda hits: -hits.accuracy)
        pairs = [_pair(a, b) for a, b in itertools.combinations(ranked, 2)]
        for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            real = p < LEVEL and not pair["low"] <= 0 <= pair["high"]
            rows.append({"data_set": title, **pair, "p_holm": p, "real": real})
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


def hits_of(runs: Sequence[RunResult]) -> list[Hits]:
    """Return the hits of each scheme in the order given; a column is the same image in all of them.

    The most probable class is the answer, the first of equals. Raises BadInput when two runs differ in the
    index, name or label of any test image.
    """
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    first = _test_of(runs[0])
    for run in runs:
        test = _test_of(run)
        if fault := _mismatch(first, test):
            raise BadInput(
                f"{run.folder}: expected the test images of {runs[0].folder}, found {fault}; "
                "compare runs of the same data set, subset and split seed"
            )
        right = test["probabilities"].argmax(axis=1) == test["labels"]
        found.setdefault((run.recipe["scheme"], run.recipe["weights"]), []).append(right)
    return [Hits(*scheme, np.stack(right)) for scheme, right in found.items()]


def paired_interval(differences: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the bootstrap percentile interval (low, high) of the mean of differences, (N,), one an image.

    Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. N images drawn with replacement
    hold each distinct difference a multinomial number of times; drawing those numbers draws from the
    same distribution, in a time that does not grow with N. The images are what varies, not the training.
    """
    values, counts = np.unique(differences, return_counts=True)
    n = len(differences)
    drawn = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED)).multinomial(n, counts / n, size=resamples)
    low, high = np.quantile(drawn @ values / n, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)


def sign_counts(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Return on how many images a is right with more seeds than b, and b with more seeds than a.

    a and b are (S, N) and (T, N) bool. With one seed each these are the images that only one of them is right
    on. The counts are exchangeable, as the test needs, between equal numbers of seeds only, so the
    first min(S, T) seeds of each are counted.
    """
    seeds = min(len(a), len(b))
    lead = a[:seeds].sum(axis=0, dtype=int) - b[:seeds].sum(axis=0, dtype=int)
    return int((lead > 0).sum()), int((lead < 0).sum())


def mcnemar(only_a_right: int, only_b_right: int) -> float:
    """Return the exact two-sided p of McNemar's test: that a fair coin decided who is right alone.

    McNemar, Psychometrika 12 (1947), with the binomial distribution itself instead of its approximation; 1
    where the two never differ. On counts over several seeds this is the sign test, of which it is a case.
    """
    disagreements = only_a_right + only_b_right
    return float(binomtest(only_a_right, disagreements, 0.5).pvalue) if disagreements else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for being several, in the order given: Holm's step-down method.

    The i-th smallest of m (from 0) is multiplied by m - i, no smaller than the one before it, and at most 1.
    Below LEVEL, all of them together are wrong with a chance of at most LEVEL, however the tests depend on
    each other. Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    found = np.asarray(p_values, dtype=float)
    order = np.argsort(found, kind="stable")
    stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)).clip(max=1.0)
    return stepped[np.argsort(order)].tolist()


def _pair(a: Hits, b: Hits) -> dict[str, Any]:
    low, high = paired_interval(a.right.mean(axis=0) - b.right.mean(axis=0))
    only_a, only_b = sign_counts(a.right, b.right)
    return {
        **{"scheme_a": a.scheme, "weights_a": a.weights, "scheme_b": b.scheme, "weights_b": b.weights},
        **{"n": a.right.shape[1], "seeds_a": len(a.right), "seeds_b": len(b.right)},
        **{"accuracy_a": a.accuracy, "accuracy_b": b.accuracy, "difference": a.accuracy - b.accuracy},
        **{"low": low, "high": high, "only_a_right": only_a, "only_b_right": only_b},
        "p": mcnemar(only_a, only_b),
    }


def _test_of(run: RunResult) -> dict[str, np.ndarray]:
    """Return the columns of a run's predictions on test, in the order of the images' index."""
    test = run.split("test")
    order = np.argsort(test.index, kind="stable")
    return {name: getattr(test, name)[order] for name in ("index", "names", "labels", "probabilities")}


def _mismatch(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> str | None:
    """Return in words how two sets of images in order differ, or None."""
    if len(expected["index"]) != len(found["index"]):
        return f"{len(found['index']):,} images instead of {len(expected['index']):,}"
    for field, word in (("index", "index"), ("names", "name"), ("labels", "label")):
        if (apart := np.flatnonzero(expected[field] != found[field])).size:
            example = f"{found[field][apart[0]]} instead of {expected[field][apart[0]]}"
            return f"another {word} for {len(apart):,} images, such as {example}"
    return None
