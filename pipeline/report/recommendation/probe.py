"""Probe input sizes and joined taps on a subset: how accurate a linear classifier gets, and at what cost.

The subset is of train and val images; test images are never read. A logistic regression is fitted on either
half of it and evaluated on the other, so each image of the subset is a val image once.
"""

import functools
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import Arrays
from pipeline.datasets.split import stratified_sample
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import TEST
from pipeline.features.passes import Pass
from pipeline.features.sections import Section, multiply_adds
from pipeline.heads import linear
from pipeline.heads.data import HeadData
from pipeline.progress import Progress
from pipeline.recipes.heads import LogisticHead
from pipeline.training.examples import Examples
from pipeline.views import IDENTITY

C = tuple(10.0**power for power in range(-5, 1))  # inverse penalties; the best is chosen for each join
EXTRACTION_SHARE = 0.55  # of the budget; compiling and fitting take the rest
FEWEST = 50  # images in the subset, if the data set has as many


@dataclass(frozen=True, eq=False)
class Probe:
    """Joined taps at one input size: which images of the subset are classified correctly, (n,) bool.

    blocks are the numbers of their blocks, from 1; width is the number of features. seconds and bytes are
    those of caching them for the whole data set: estimated from the speed measured on the subset.
    """

    input_size: int
    blocks: tuple[int, ...]
    width: int
    correct: np.ndarray
    seconds: float
    bytes: int

    @property
    def accuracy(self) -> float:
        """The share of the subset that is classified correctly, 0..1."""
        return float(self.correct.mean())


def joins(blocks: int) -> list[tuple[int, ...]]:
    """Return all runs of consecutive blocks: (1,), (1, 2), … (blocks,)."""
    ends = itertools.combinations_with_replacement(range(1, blocks + 1), 2)
    return [tuple(range(first, last + 1)) for first, last in ends]


def probe_sizes(
    bases: list[dict[str, Any]], images: ImageStore, arrays: Arrays, budget: float, progress: Progress
) -> list[Probe]:
    """Return a probe for each join at each input size, smallest size first.

    bases are the fingerprints of the caches at these sizes. The subset is as large as the budget in seconds
    allows at the speed that a pass of each size is measured at. Images are drawn by a hash, so a smaller
    subset is part of a larger one. Sizes for which no time is left are left out.
    """
    start = time.monotonic()
    row = BACKBONES[bases[0]["backbone"]]
    sections = [Section(Path(), base, IDENTITY, row.taps) for base in bases]
    passes, rates = [], []
    for number, section in enumerate(sections):
        progress("measure speed", number, len(sections), "input sizes")
        passes.append(Pass(section, arrays, image_size=images.image_size))
        rates.append(_seconds_per_image(passes[-1], images))
    rows = np.flatnonzero(images.split != TEST)
    count = max(FEWEST, int(EXTRACTION_SHARE * budget / sum(rates)))
    rows = rows[_drawn(images, rows, min(count, len(rows)), "recommendation")]
    labels = images.labels[rows]
    half = _drawn(images, rows, len(rows) // 2, "recommendation half")
    probes = list[Probe]()
    for number, (section, one_pass, rate) in enumerate(zip(sections, passes, rates, strict=True)):
        size, elapsed = section.base["input_size"], time.monotonic() - start
        if probes and elapsed + count * rate > budget:
            break
        progress(f"probe {size} px", number, len(sections), "input sizes")
        features = one_pass.features_of(images.images, IDENTITY, rows)
        whole = multiply_adds(section.base, row.taps)
        sets = joins(len(row.taps))
        joined = [np.concatenate([features[block - 1] for block in blocks], axis=1) for blocks in sets]
        fit = functools.partial(_correct, labels=labels, half=half, classes=len(images.class_names))
        with ThreadPoolExecutor(one_pass.at_once) as pool:
            results = list(pool.map(fit, joined))
        for blocks, inputs, correct in zip(sets, joined, results, strict=True):
            share, width = multiply_adds(section.base, (row.taps[blocks[-1] - 1],)) / whole, inputs.shape[1]
            seconds, size_in_bytes = round(share * rate * len(images), 1), 4 * width * len(images)
            probes.append(Probe(size, blocks, width, correct, seconds, size_in_bytes))
    return probes


def _drawn(images: ImageStore, rows: np.ndarray, count: int, purpose: str) -> np.ndarray:
    positions = images.index[rows]
    return stratified_sample(images.labels[rows], count, seed=0, purpose=purpose, positions=positions)


def _seconds_per_image(one_pass: Pass, images: ImageStore) -> float:
    """Return the seconds that an image takes once the network is compiled, from a pass on each core."""
    batch = images.images[: one_pass.at_once * one_pass.size]
    start = time.perf_counter()
    one_pass.features_of(batch, IDENTITY)
    full = one_pass.size * -(-len(batch) // one_pass.size)  # a pass of few images takes as long as a full one
    return (time.perf_counter() - start) / full


def _correct(features: np.ndarray, labels: np.ndarray, half: np.ndarray, classes: int) -> np.ndarray:
    """Return which images (n,) bool are classified correctly by the head of the other half."""
    correct = np.empty((len(C), len(labels)), bool)
    for part in (half, ~half):
        train, val = np.flatnonzero(part), np.flatnonzero(~part)
        data = HeadData(Examples(features, labels, train, val, classes))
        points = [{"c": c} for c in C]
        outputs = linear.predict_logits(LogisticHead("logistic", "logistic regression"), points, data)
        correct[:, val] = [logits[0].argmax(axis=1) == labels[val] for logits in outputs]
    return correct[correct.mean(axis=1).argmax()]
