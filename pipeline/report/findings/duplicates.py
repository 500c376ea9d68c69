"""Near-duplicates between train and test: the nearest training image by features, then verified by pixels."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter

from pipeline.datasets.table import TRAIN
from pipeline.report.findings.pictures import Cell, beside, shortened
from pipeline.report.findings.sources import Sources
from pipeline.views import IDENTITY

# Set by eye on CIFAR-10 with block3 to block5 of the hed weights, where chance reaches 0.43. Of 84 test
# images with a detail of 0.6 to 0.7 about nine in ten show one photograph, or two of a series. From 0.6 on
# there are 333 of 10,000; Barz & Denzler (2020) call 3.3 % duplicates.
NEAR_DETAIL = 0.6
CHANCE_PAIRS = 2000  # random pairs of one class; 1 s
CHANCE_SHARE = 0.999  # of them lie below the detail that counts as chance
SIMILAR_COSINE = 0.9  # above it, most pairs that pixels do not confirm show one thing before one background
ALWAYS_LISTED = 20  # pairs with the largest cosine, whatever it is
CHUNK = 512  # images at a time: 92 MB of cosines with 45,000 training images
SHIFT = 3  # pixels: copies of one photograph are cut and scaled a little differently
MARGIN = 3  # pixels left out at each edge: frames around otherwise different images look alike
BLUR = 5  # pixels: the square whose mean is taken away, so that skies and lawns do not count
PAIRS = 1000  # pairs at a time: 4 MB for each array of grey values
TINY = 1e-6
LARGEST = 5.0  # standard deviations: a unit that is nearly always 0 must not decide alone
IDENTICAL, NEAR, SIMILAR, UNLIKE = "identical in pixels", "near-identical", "just similar", "nearest found"
VERDICTS = (IDENTICAL, NEAR, SIMILAR, UNLIKE)
WORDS = (
    "For each val and test image the nearest training image: the one with the largest cosine between cached "
    "features, standardised by the training images and cut off at 5 standard deviations. Pixels verify it, "
    "as they are and mirrored. rms is the root mean square difference of pixel values (0 to 255). detail is "
    "the correlation of what differs from the 5 x 5 pixels around, at the best shift of up to 3 pixels. "
    f'Pairs are "{IDENTICAL}" at an rms of 0; "{NEAR}" when their detail is {NEAR_DETAIL} or more and above '
    f"what 99.9 % of random pairs of one class reach, so that simple drawings do not count; "
    f'"{SIMILAR}" when only their cosine is {SIMILAR_COSINE} or more. The {ALWAYS_LISTED} largest cosines '
    "are always listed. The bounds were set on CIFAR-10, where Barz & Denzler (Journal of Imaging 6, 2020) "
    "found by eye that 3.3 % of the test images have a duplicate in train."
)


def nearest(features: np.ndarray, train: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of others its nearest row of train, (k,) int64, and their cosine, (k,) float32.

    features is (N, D) float32, train and others are rows of it. Features are standardised by mean and
    standard deviation over train, cut off at 5 standard deviations, and brought to length 1. Memory is a
    copy of features and CHUNK rows of cosines; time is len(train) * len(others) * D multiply-adds.
    """
    points = features[train]
    mean = points.mean(axis=0, dtype=np.float64).astype(np.float32)
    points -= mean
    variance = np.einsum("nd,nd->d", points, points, dtype=np.float64) / len(points)
    scale = np.divide(1, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    scale = scale.astype(np.float32)
    _to_sphere(points, scale)
    found, cosines = np.empty(len(others), dtype=np.int64), np.empty(len(others), dtype=np.float32)
    for start in range(0, len(others), CHUNK):
        part = slice(start, start + CHUNK)
        chunk = features[others[part]] - mean
        _to_sphere(chunk, scale)
        alike = chunk @ points.T
        best = alike.argmax(axis=1)
        found[part], cosines[part] = train[best], alike[np.arange(len(best)), best]
    return found, cosines.clip(-1.0, 1.0)


def verdicts(cosine: np.ndarray, rms: np.ndarray, detail: np.ndarray, *, near: float) -> np.ndarray:
    """Return the place in VERDICTS of each pair, (k,) int64, from its cosine, rms (0..255) and detail.

    near is the least detail of near-identical images.
    """
    conditions = [rms == 0, detail >= near, cosine >= SIMILAR_COSINE]
    return np.select(conditions, [0, 1, 2], default=3)


@functools.cache
def near_detail(sources: Sources) -> float:
    """Return the least detail of near-identical images: NEAR_DETAIL, or what random pairs reach by chance.

    Chance is the CHANCE_SHARE quantile over random pairs of training images of one class.
    """
    random, labels = np.random.default_rng(0), sources.images.labels
    train = np.flatnonzero(sources.images.split == TRAIN)
    ones = random.choice(train, CHANCE_PAIRS)
    of_class = {label: train[labels[train] == label] for label in np.unique(labels[train])}
    others = np.array([random.choice(of_class[label]) for label in labels[ones]])
    ones, others = ones[ones != others], others[ones != others]
    if not len(ones):
        return NEAR_DETAIL
    detail = compare(sources.pixels[ones], sources.pixels[others]).detail
    return max(NEAR_DETAIL, float(np.quantile(detail, CHANCE_SHARE)))


def find(sources: Sources) -> pd.DataFrame:
    """Return the pairs above a bound and those with the largest cosines, surest verdict first.

    Columns are those of Sources.ranked, then index, name and label of the nearest training image with
    "train_" before them, cosine, rms, detail, mirrored and verdict.
    """
    split = sources.images.split
    train, others = np.flatnonzero(split == TRAIN), np.flatnonzero(split != TRAIN)
    sources.progress("find near-duplicates", 0, len(others), "images")
    pairs, cosine = nearest(sources.features.load(sources.layers, IDENTITY), train, others)
    alike = compare(sources.pixels[others], sources.pixels[pairs])
    verdict = verdicts(cosine, alike.rms, alike.detail, near=near_detail(sources))
    listed = verdict < VERDICTS.index(UNLIKE)
    listed[np.argsort(-cosine, kind="stable")[:ALWAYS_LISTED]] = True
    order = np.lexsort((others, -cosine, verdict))
    order = order[listed[order]]
    train_images = sources.ranked(pairs[order])[["index", "name", "label"]].add_prefix("train_")
    return pd.concat([sources.ranked(others[order]), train_images], axis=1).assign(
        cosine=cosine[order].astype(np.float64).round(4),
        rms=alike.rms[order].round(2),
        detail=alike.detail[order].round(4),
        mirrored=alike.mirrored[order],
        verdict=[VERDICTS[place] for place in verdict[order]],
    )


def summary(sources: Sources, table: pd.DataFrame) -> str:
    """Return in words how many pairs of each verdict there are, and how many differ in label."""
    counts = table["verdict"].value_counts()
    by_verdict = ", ".join(f"{counts[name]:,} {name}" for name in VERDICTS if name in counts)
    sure = table[table["verdict"].isin((IDENTICAL, NEAR))]
    by_split = ", ".join(f"{(sure['split'] == name).sum():,} in {name}" for name in ("test", "val"))
    apart = int((sure["label"] != sure["train_label"]).sum())
    return (
        f"{len(table):,} pairs are listed: {by_verdict}. Of the identical and near-identical ones "
        f"({by_split}), {apart:,} carry two different labels. Near-identical starts at a detail of "
        f"{near_detail(sources):.2f} here."
    )


def cell(sources: Sources, row: pd.Series) -> Cell:
    """Return a pair as a cell of the picture: the val or test image, then the training image as it fits."""
    other, turned = sources.image(row["train_index"]), ""
    if row["mirrored"]:
        other, turned = other[:, ::-1], ", mirrored"
    lines = (
        f"{row['split']} {row['name']}",
        f"train {row['train_name']}",
        f"{shortened(row['label'])} | {shortened(row['train_label'])}{turned}",
        f"{row['verdict']}: cos {row['cosine']:.3f}, rms {row['rms']:.1f}",
    )
    return Cell(beside(sources.image(row["index"]), other), lines)


def _to_sphere(points: np.ndarray, scale: np.ndarray) -> None:
    """Standardise centred points of our own, cut them off, and bring each row to length 1, in place."""
    points *= scale
    np.clip(points, -LARGEST, LARGEST, out=points)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True, eq=False)
class Alikeness:
    """How alike pairs of images are: rms (k,) in 0..255, detail (k,) in -1..1, mirrored (k,) bool.

    mirrored says whether the second image fits better when it is mirrored left to right; rms and detail
    are then those of the mirrored one.
    """

    rms: np.ndarray
    detail: np.ndarray
    mirrored: np.ndarray


def compare(one: np.ndarray, other: np.ndarray) -> Alikeness:
    """Return how alike each of k pairs of images is; both are (k, height, width, 3) uint8."""
    starts = range(0, max(1, len(one)), PAIRS)
    parts = [_compare(one[start : start + PAIRS], other[start : start + PAIRS]) for start in starts]
    return Alikeness(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def rms_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the root mean square difference of pixel values, (k,) float64 in 0..255."""
    difference = one.astype(np.float32) - other.astype(np.float32)
    return np.sqrt(np.square(difference).mean(axis=(1, 2, 3), dtype=np.float64))


def detail_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation of two images' detail at the best shift of up to 3 pixels, (k,) in -1..1.

    Detail is the grey value without the mean of the 5 x 5 pixels around it; a frame of 3 pixels is left out.
    Without detail in one of the two it is 0.
    """
    ours, theirs = _detail(one), _detail(other)
    best = np.full(len(one), -1.0)
    for down in range(-SHIFT, SHIFT + 1):
        for across in range(-SHIFT, SHIFT + 1):
            found = _correlation(_moved(ours, down, across), _moved(theirs, -down, -across))
            best = np.maximum(best, found)
    return best


def _compare(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flipped = other[:, :, ::-1]
    straight, mirror = detail_correlation(one, other), detail_correlation(one, flipped)
    mirrored = mirror > straight + TINY
    rms = np.where(mirrored, rms_difference(one, flipped), rms_difference(one, other))
    return rms, np.maximum(straight, mirror), mirrored


def _detail(images: np.ndarray) -> np.ndarray:
    """Return (k, height - 6, width - 6) float32: grey values without the mean around them, frame cut off."""
    grey = images.mean(axis=3, dtype=np.float32)
    detail = grey - uniform_filter(grey, (1, BLUR, BLUR), mode="mirror")
    return detail[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _moved(images: np.ndarray, down: int, across: int) -> np.ndarray:
    """Return the part of images that another, moved by (down, across), covers."""
    height, width = images.shape[1:]
    return images[:, max(0, down) : height + min(0, down), max(0, across) : width + min(0, across)]


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each pair, (k,) float64; 0 where one of them is constant."""
    one = one - one.mean(axis=(1, 2), keepdims=True)
    other = other - other.mean(axis=(1, 2), keepdims=True)
    shared = np.einsum("nhw,nhw->n", one, other, dtype=np.float64)
    sizes = np.einsum("nhw,nhw->n", one, one) * np.einsum("nhw,nhw->n", other, other)
    return shared / np.sqrt(np.maximum(sizes, TINY))
