"""Near-duplicates between train and test: nearest training images by features, verified by pixels."""

import functools
import itertools

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.preprocessing import StandardScaler

from pipeline.datasets.table import TRAIN
from pipeline.report.drawing import shorten
from pipeline.report.findings.pictures import MAX_CLASS_LENGTH, Cell, side_by_side
from pipeline.report.findings.sources import FindingSources
from pipeline.views import IDENTITY

# Chosen by eye on CIFAR-10 with block3 to block5 of weights close to ImageNet's; random pairs reach 0.43. Of
# 84 test images with a detail of 0.6 to 0.7, about nine in ten show the same photograph or two of a series.
# With ImageNet's weights and all blocks at 32 px, 420 of 10,000 have 0.6 or more, 333 with those weights;
# Barz & Denzler (2020) count 3.3 % duplicates.
NEAR_DETAIL = 0.6
RANDOM_PAIRS = 2000  # of one class; 1 s
RANDOM_QUANTILE = 0.999  # of their detail; near-identical pairs must exceed it
SIMILAR_COSINE = 0.9  # above it, most pairs not confirmed by pixels show similar objects and backgrounds
ALWAYS_LISTED = 20  # pairs with the largest cosines, listed in any case
MAX_SHIFT = 3  # pixels: copies of a photograph are cropped and scaled slightly differently
MARGIN = 3  # pixels ignored at each edge: different images may have the same frame
BLUR = 5  # pixels: the square whose mean is subtracted, so that skies and lawns do not count
PAIR_CHUNK = 1000  # pairs at a time: 4 MB for each array of gray values
EPSILON = 1e-6
CLIP = 5.0  # standard deviations: a rarely active unit must not dominate the cosine
IDENTICAL, NEAR, SIMILAR, DISSIMILAR = "identical", "near-identical", "similar", "dissimilar"
VERDICTS = (IDENTICAL, NEAR, SIMILAR, DISSIMILAR)
EXPLANATION = (
    "Each val and test image is paired with its nearest training image: the one with the largest cosine of "
    "cached features, standardized on train and clipped at 5 standard deviations. Pairs are then verified by "
    "pixels, with and without mirroring. rms is the root mean square difference of pixel values (0 to 255). "
    "detail is the correlation of the images minus their local 5 x 5 mean, at the best shift of up to 3 "
    f'pixels. Pairs are "{IDENTICAL}" if rms is 0; "{NEAR}" if detail is at least {NEAR_DETAIL} and above '
    f"that of 99.9 % of random pairs of one class, which excludes simple drawings; "
    f'"{SIMILAR}" if only the cosine is at least {SIMILAR_COSINE}. The {ALWAYS_LISTED} pairs with the '
    "largest cosines are always listed. The thresholds were chosen on CIFAR-10, where Barz & Denzler "
    "(Journal of Imaging 6, 2020) found by eye that 3.3 % of the test images have a duplicate in train."
)


def nearest(features: np.ndarray, train: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of others its nearest row of train, (k,) int64, and their cosine, (k,) float32.

    features is (N, D) float32; train and others are row numbers. Features are standardized with mean and
    standard deviation of train and clipped at 5 standard deviations.
    """
    scaler = StandardScaler().fit(features[train])
    points, queries = (scaler.transform(features[rows]).clip(-CLIP, CLIP) for rows in (train, others))
    neighbors, distances = pairwise_distances_argmin_min(queries, points, metric="cosine")
    return train[neighbors], (1 - distances).astype(np.float32).clip(-1.0, 1.0)


def verdicts(cosine: np.ndarray, rms: np.ndarray, detail: np.ndarray, *, near: float) -> np.ndarray:
    """Return the index in VERDICTS of each pair, (k,) int64, from its cosine, rms (0..255) and detail.

    near is the minimum detail of near-identical images.
    """
    return np.select([rms == 0, detail >= near, cosine >= SIMILAR_COSINE], [0, 1, 2], default=3)


@functools.cache
def near_detail(sources: FindingSources) -> float:
    """Return the minimum detail of near-identical images: NEAR_DETAIL, or more if random pairs reach more.

    The limit is the RANDOM_QUANTILE quantile of the detail of random pairs of training images of one class.
    """
    random, labels = np.random.default_rng(0), sources.images.labels
    train = np.flatnonzero(sources.images.split == TRAIN)
    ones = random.choice(train, RANDOM_PAIRS)
    of_class = {label: train[labels[train] == label] for label in np.unique(labels[train])}
    others = np.array([random.choice(of_class[label]) for label in labels[ones]])
    ones, others = ones[ones != others], others[ones != others]
    if not len(ones):
        return NEAR_DETAIL
    detail = compare(sources.thumbnails[ones], sources.thumbnails[others])["detail"]
    return max(NEAR_DETAIL, float(np.quantile(detail, RANDOM_QUANTILE)))


def find(sources: FindingSources) -> pd.DataFrame:
    """Return the pairs above a threshold and those with the largest cosines, strongest verdict first.

    Columns are those of FindingSources.ranked; index, name and label of the nearest training image with the
    prefix "train_"; cosine, rms, detail, mirrored and verdict.
    """
    split = sources.images.split
    train, others = np.flatnonzero(split == TRAIN), np.flatnonzero(split != TRAIN)
    sources.progress("find near-duplicates", 0, len(others), "images")
    neighbors, cosine = nearest(sources.features.load(sources.layers, IDENTITY), train, others)
    pairs = compare(sources.thumbnails[others], sources.thumbnails[neighbors])
    evidence = pairs["rms"].to_numpy(), pairs["detail"].to_numpy()
    verdict = verdicts(cosine, *evidence, near=near_detail(sources))
    listed = verdict < VERDICTS.index(DISSIMILAR)
    listed[np.argsort(-cosine, kind="stable")[:ALWAYS_LISTED]] = True
    rows = np.lexsort((others, -cosine, verdict))
    rows = rows[listed[rows]]
    pairs.insert(0, "cosine", cosine.astype(np.float64))
    pairs["verdict"] = np.array(VERDICTS)[verdict]
    train_images = sources.ranked(neighbors[rows])[["index", "name", "label"]].add_prefix("train_")
    pairs = pairs.iloc[rows].reset_index(drop=True).round({"cosine": 4, "rms": 2, "detail": 4})
    return pd.concat([sources.ranked(others[rows]), train_images, pairs], axis=1)


def summary(sources: FindingSources, table: pd.DataFrame) -> str:
    """Return a sentence with the number of pairs for each verdict, and of those with different labels."""
    counts = table["verdict"].value_counts()
    by_verdict = ", ".join(f"{counts[name]:,} {name}" for name in VERDICTS if name in counts)
    copies = table[table["verdict"].isin((IDENTICAL, NEAR))]
    by_split = ", ".join(f"{(copies['split'] == name).sum():,} in {name}" for name in ("test", "val"))
    conflicts = int((copies["label"] != copies["train_label"]).sum())
    return (
        f"{len(table):,} pairs are listed: {by_verdict}. Of the identical and near-identical pairs "
        f"({by_split}), {conflicts:,} have two different labels. Near-identical pairs have a detail of at "
        f"least {near_detail(sources):.2f} on this data set."
    )


def cell(sources: FindingSources, row: pd.Series) -> Cell:
    """Return a pair as a cell of the picture: the val or test image, then the training image."""
    other, note = sources.image(row["train_index"]), ""
    if row["mirrored"]:
        other, note = other[:, ::-1], ", mirrored"
    lines = (
        f"{row['split']} {row['name']}",
        f"train {row['train_name']}",
        f"{shorten(row['label'], MAX_CLASS_LENGTH)} | {shorten(row['train_label'], MAX_CLASS_LENGTH)}{note}",
        f"{row['verdict']}: cos {row['cosine']:.3f}, rms {row['rms']:.1f}",
    )
    return Cell(side_by_side(sources.image(row["index"]), other), lines)


def compare(one: np.ndarray, other: np.ndarray) -> pd.DataFrame:
    """Return rms (0..255), detail (-1..1) and mirrored (bool) of k pairs of images, a row for each.

    Both are (k, height, width, 3) uint8. mirrored is true if the second image matches better when flipped
    left to right; rms and detail are then those of the flipped image.
    """
    if len(one) > PAIR_CHUNK:
        chunks = [slice(start, start + PAIR_CHUNK) for start in range(0, len(one), PAIR_CHUNK)]
        return pd.concat([compare(one[chunk], other[chunk]) for chunk in chunks], ignore_index=True)
    flipped = other[:, :, ::-1]
    detail, flipped_detail = detail_correlation(one, other), detail_correlation(one, flipped)
    mirrored = flipped_detail > detail + EPSILON
    rms = np.where(mirrored, rms_difference(one, flipped), rms_difference(one, other))
    return pd.DataFrame({"rms": rms, "detail": np.maximum(detail, flipped_detail), "mirrored": mirrored})


def rms_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the root mean square difference of pixel values, (k,) float64 in 0..255."""
    difference = one.astype(np.float32) - other.astype(np.float32)
    return np.sqrt(np.square(difference).mean(axis=(1, 2, 3), dtype=np.float64))


def detail_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation of the detail of image pairs at the best shift of up to 3 pixels, (k,) in -1..1.

    Detail is the gray value minus the mean of the 5 x 5 pixels around it, without a margin of 3 pixels. The
    correlation is 0 if one image has no detail.
    """
    detail, other_detail = _detail(one), _detail(other)
    best, shifts = np.full(len(one), -1.0), range(-MAX_SHIFT, MAX_SHIFT + 1)
    for down, across in itertools.product(shifts, shifts):
        overlap, other_overlap = _overlap(detail, down, across), _overlap(other_detail, -down, -across)
        best = np.maximum(best, _correlation(overlap, other_overlap))
    return best


def _detail(images: np.ndarray) -> np.ndarray:
    """Return (k, height - 6, width - 6) float32: gray values minus the local mean, without the margin."""
    gray = images.mean(axis=3, dtype=np.float32)
    detail = gray - uniform_filter(gray, (1, BLUR, BLUR), mode="mirror")
    return detail[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _overlap(images: np.ndarray, down: int, across: int) -> np.ndarray:
    """Return the part of images that overlaps with other images shifted by (down, across)."""
    height, width = images.shape[1:]
    return images[:, max(0, down) : height + min(0, down), max(0, across) : width + min(0, across)]


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each pair, (k,) float64; 0 if one image is constant."""
    one = one - one.mean(axis=(1, 2), keepdims=True)
    other = other - other.mean(axis=(1, 2), keepdims=True)
    shared = np.einsum("nhw,nhw->n", one, other, dtype=np.float64)
    sizes = np.einsum("nhw,nhw->n", one, one) * np.einsum("nhw,nhw->n", other, other)
    return shared / np.sqrt(np.maximum(sizes, EPSILON))
