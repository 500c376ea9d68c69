"""The train/val/test split: stratified, seeded, and the same on every machine and for every scheme.

Images are ranked by a hash of seed and position instead of a random generator, so that the result does not
depend on library versions and a smaller subset is always part of a larger one.
"""

import hashlib

import numpy as np

from pipeline.datasets.table import SPLITS, TEST, TRAIN, VAL, parse_budget
from pipeline.errors import unknown_name


def split_images(
    labels: np.ndarray, is_test: np.ndarray | None, *, val_fraction: float, test_fraction: float, seed: int
) -> np.ndarray:
    """Return the split (N,) uint8 (0 train, 1 val, 2 test) of images with labels (N,) int64.

    is_test (N,) bool selects the test images; if it is None, test_fraction of all images are test.
    val_fraction is of the images that are not test. Class proportions are kept to within one image.
    """
    split = np.full(len(labels), TRAIN, dtype=np.uint8)
    if is_test is None:
        count = round(len(labels) * test_fraction)
        is_test = stratified_sample(labels, count, seed=seed, purpose="test")
    split[is_test] = TEST
    rest = np.flatnonzero(~is_test)
    count = round(len(rest) * val_fraction)
    split[rest[stratified_sample(labels[rest], count, seed=seed, purpose="val", positions=rest)]] = VAL
    return split


def split_by_content(
    content: np.ndarray,
    labels: np.ndarray,
    source_split: np.ndarray,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the split (N,) uint8 of pictures, from the sha256 (N, 32) of their pixels and the seed alone,
    and a mask (N,) bool of those that a class has lent.

    Each digest is hashed to a value in 0..1 that does not depend on the other pictures: below test_fraction
    the picture is test, below val_fraction of the rest it is val. Duplicates get the same split, and the
    fractions hold on average. source_split (N,) uint8 is the split set by the source, 255 if unassigned. If
    the source has no val or no test pictures, they are drawn from train.

    A class that is left without a picture in val lends it the one of its train pictures with the smallest
    value, and to test the one with the largest, so that the loans do not depend on each other. With more
    pictures, a loan can go back to train, and nothing else moves.
    """
    hashes = [hashlib.sha256(b"%d/split/" % seed + digest.tobytes()).digest() for digest in content]
    values = np.array([int.from_bytes(digest[:7], "big") / 2**56 for digest in hashes])
    has_test, has_val = (source_split == TEST).any(), (source_split == VAL).any()
    test_share = 0.0 if has_test else test_fraction
    val_share = 0.0 if has_val else val_fraction * (1 - test_share)
    drawn = np.where(values < test_share, TEST, np.where(values < test_share + val_share, VAL, TRAIN))
    split = np.where(np.isin(source_split, (VAL, TEST)), source_split, drawn).astype(np.uint8)
    lent = np.zeros(len(split), bool)
    for label in np.unique(labels):
        members = labels == label
        available = np.unique(values[members & (split == TRAIN)])
        for code, share, place in ((VAL, val_share, 0), (TEST, test_share, -1)):
            if share and not (members & (split == code)).any() and len(available) > 1:
                loan = values == available[place]  # with its duplicates, in whatever class they are
                available = np.delete(available, place)
                loan &= split == TRAIN
                split[loan], lent[loan] = code, True
    return split, lent


def subset_images(labels: np.ndarray, split: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """Return sorted positions (count,) int64 of a subset stratified by class and split.

    The images of each class and split are ranked at even intervals (Webster's method). A smaller subset is
    then part of a larger one; with largest remainder, a quota can fall as the count grows.
    """
    strata, ranks = labels * len(SPLITS) + split, np.empty(len(labels))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        permutation = _hash_permutation(members, seed, "subset")
        ranks[members[permutation]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(ranks, kind="stable")[:count])


def stratified_sample(
    strata: np.ndarray, count: int, *, seed: int, purpose: str, positions: np.ndarray | None = None
) -> np.ndarray:
    """Return a mask (N,) bool with exactly count true, distributed over strata (N,) in proportion.

    Each stratum contributes the images with the smallest hash of seed, purpose and position. positions (N,)
    identify the images; the default is 0 … N-1.
    """
    positions = np.arange(len(strata)) if positions is None else positions
    mask = np.zeros(len(strata), dtype=bool)
    names, sizes = np.unique(strata, return_counts=True)
    for stratum, quota in zip(names, apportion(sizes, count), strict=True):
        members = np.flatnonzero(strata == stratum)
        mask[members[_hash_permutation(positions[members], seed, purpose)[:quota]]] = True
    return mask


def apportion(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return integers (K,) that sum to count, in proportion to sizes (K,), by largest remainder."""
    exact = sizes * (count / max(1, sizes.sum()))  # sizes may sum to 0
    quotas = np.floor(exact).astype(int)
    largest = np.argsort(-(exact - quotas), kind="stable")[: count - quotas.sum()]
    quotas[largest] += 1
    return quotas


def _hash_permutation(positions: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    hashes = [hashlib.sha256(f"{seed}/{purpose}/{position}".encode()).digest() for position in positions]
    return np.argsort(hashes, kind="stable")


def budget_rows(labels: np.ndarray, rows: np.ndarray, text: str, positions: np.ndarray) -> np.ndarray:
    """Return the rows, out of rows (n,), that a label budget selects: stratified, in ascending order.

    labels and positions (N,) are of all images. A draw selects by position, so it selects the same images
    whatever the subset, and a smaller budget of a draw is part of a larger one. A share selects at least as
    many rows as there are classes. Raises BadInput.
    """
    budget, names = parse_budget(text), np.unique(labels[rows])
    if budget.share == 1:
        return rows
    selected = []
    for group in [rows[labels[rows] == name] for name in names] if budget.per_class else [rows]:
        count = budget.per_class or max(len(names), round((budget.share or 0) * len(group)))
        ranking = {"seed": budget.draw, "purpose": "labels", "positions": positions[group]}
        selected.append(group[stratified_sample(labels[group], min(count, len(group)), **ranking)])
    return np.sort(np.concatenate(selected))


def rows_of(split: np.ndarray, name: str) -> np.ndarray:
    """Return the positions (n,) int64 of "train", "val" or "test" in codes (N,); raise BadInput."""
    if name not in SPLITS:
        raise unknown_name("split", name, SPLITS)
    return np.flatnonzero(split == SPLITS[name])
