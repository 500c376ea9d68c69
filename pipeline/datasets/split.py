"""The one train/val/test split, stratified and seeded, the same on every machine and for every scheme.

Images are ranked by a hash of seed and position, not by a random generator: the order is the same under
every version of every library, and a smaller subset is always part of a larger one.
"""

from __future__ import annotations

import hashlib

import numpy as np

from pipeline.datasets.table import SPLITS, TEST, TRAIN, VAL, parse_budget


def split_images(
    labels: np.ndarray, is_test: np.ndarray | None, *, val_fraction: float, test_fraction: float, seed: int
) -> np.ndarray:
    """Return the split (N,) uint8 (0 train, 1 val, 2 test) of images with labels (N,) int64.

    Where is_test (N,) bool is given it decides what is test; otherwise test_fraction of all images is.
    val_fraction is of the images that are not test. Classes keep their shares to within one image.
    """
    split = np.full(len(labels), TRAIN, dtype=np.uint8)
    if is_test is None:
        wanted = round(len(labels) * test_fraction)
        is_test = chosen(labels, wanted, seed=seed, purpose="test")
    split[is_test] = TEST
    pool = np.flatnonzero(~is_test)
    wanted = round(len(pool) * val_fraction)
    split[pool[chosen(labels[pool], wanted, seed=seed, purpose="val", positions=pool)]] = VAL
    return split


def split_by_content(
    content: np.ndarray, given: np.ndarray, *, val_fraction: float, test_fraction: float, seed: int
) -> np.ndarray:
    """Return the split (N,) uint8 of images by the sha256 (N, 32) of their pixels and the seed alone.

    Each digest falls on a place in 0..1, the same whichever other images there are: below test_fraction it
    is test, below val_fraction of the rest val. Equal images share a place, and so a split; shares hold on
    average. given (N,) uint8 has the split where the source gives one, and 255 elsewhere: images of train
    are shared out to val where the source gives no val, and to test where it gives no test.
    """
    hashes = [hashlib.sha256(b"%d/split/" % seed + digest.tobytes()).digest() for digest in content]
    places = np.array([int.from_bytes(found[:7], "big") / 2**56 for found in hashes])
    has_test, has_val = (given == TEST).any(), (given == VAL).any()
    test_share = 0.0 if has_test else test_fraction
    val_share = 0.0 if has_val else val_fraction * (1 - test_share)
    drawn = np.where(places < test_share, TEST, np.where(places < test_share + val_share, VAL, TRAIN))
    return np.where(np.isin(given, (VAL, TEST)), given, drawn).astype(np.uint8)


def subset_images(labels: np.ndarray, split: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """Return sorted positions (count,) int64 of a subset that keeps the shares of classes and splits.

    Each class of each split sends its images at even intervals (Webster's rule), so that a smaller subset
    is part of a larger one; shares by largest remainder can fall while the count grows.
    """
    strata, turns = labels * len(SPLITS) + split, np.empty(len(labels))
    for kind in np.unique(strata):
        members = np.flatnonzero(strata == kind)
        order = _hash_order(members, seed, "subset")
        turns[members[order]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(turns, kind="stable")[:count])


def chosen(
    strata: np.ndarray, count: int, *, seed: int, purpose: str, positions: np.ndarray | None = None
) -> np.ndarray:
    """Return a mask (N,) bool with exactly count true, shared out over strata (N,) in proportion.

    Within a stratum the images with the smallest hash of seed, purpose and position are taken; positions
    (N,) name the images, 0 … N-1 where they are not given.
    """
    positions = np.arange(len(strata)) if positions is None else positions
    mask = np.zeros(len(strata), dtype=bool)
    kinds, sizes = np.unique(strata, return_counts=True)
    for kind, quota in zip(kinds, shares(sizes, count), strict=True):
        members = np.flatnonzero(strata == kind)
        mask[members[_hash_order(positions[members], seed, purpose)[:quota]]] = True
    return mask


def shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return whole numbers (K,) that sum to count, in proportion to sizes (K,), by largest remainder."""
    exact = sizes * (count / max(1, sizes.sum()))  # no images have no shares
    whole = np.floor(exact).astype(int)
    largest = np.argsort(-(exact - whole), kind="stable")[: count - whole.sum()]
    whole[largest] += 1
    return whole


def _hash_order(positions: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    hashes = [hashlib.sha256(f"{seed}/{purpose}/{position}".encode()).digest() for position in positions]
    return np.argsort(hashes, kind="stable")


def given_rows(labels: np.ndarray, rows: np.ndarray, text: str, positions: np.ndarray) -> np.ndarray:
    """Return those of rows (n,) whose labels a budget gives, stratified, in their order.

    labels and positions (N,) are of all images; positions name the images, so that a draw gives the same
    ones whatever the subset. A smaller budget of a draw is part of a larger one. Raises BadInput.
    """
    budget = parse_budget(text)
    if budget.share == 1:
        return rows
    if budget.share is not None:
        count = budget.count(len(rows), len(np.unique(labels[rows])))
        mask = chosen(labels[rows], count, seed=budget.draw, purpose="labels", positions=positions[rows])
        return rows[mask]
    kept = []
    for kind in np.unique(labels[rows]):
        members = rows[labels[rows] == kind]
        order = _hash_order(positions[members], budget.draw, "labels")
        kept.append(members[order[: budget.count(len(members), classes=1)]])
    return np.sort(np.concatenate(kept))
