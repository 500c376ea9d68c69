"""Likely label errors, by confident learning on answers that the run was not trained for."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues

from pipeline.report.findings.pictures import Cell, answered
from pipeline.report.findings.sources import Sources

WORDS = (
    "Confident learning (Northcutt, Jiang & Chuang, Journal of Artificial Intelligence Research 70, 2021; "
    "cleanlab): an image counts towards class j when its probability of j is at least the mean probability "
    "of j among the images labelled j. These counts estimate how many images of each class are labelled as "
    "each other class; that many are listed, those with the largest margin between another class and the "
    "label first. The model did not see these images in training. It is a list to look through, not a "
    "verdict: what a weak model does not know stands in it as well."
)


def likely_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the positions (k,) int64 of images that are probably labelled wrong, the most probable first.

    probabilities is (n, C) float32 whose rows sum to 1, from a model that was not trained on these images;
    labels is (n,) int64. Images are pruned by noise rate and ranked by the normalised margin p(label) -
    max p(other), section 3.2 of Northcutt et al. 2021. No image whose label is its most probable class
    is listed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab warns of classes without images, which is no fault here
        found = find_label_issues(
            labels,
            probabilities,
            filter_by="prune_by_noise_rate",
            return_indices_ranked_by="normalized_margin",
            n_jobs=1,  # more would fork
        )
    found = np.asarray(found, dtype=np.int64)
    return found[probabilities.argmax(axis=1)[found] != labels[found]]


def find(sources: Sources) -> pd.DataFrame:
    """Return the likely label errors of a run's val and test images: the columns of Sources.table."""
    return sources.table(likely_label_errors(sources.unseen.probabilities, sources.unseen.labels))


def summary(sources: Sources, table: pd.DataFrame) -> str:
    """Return in a sentence how many were found, and among how many."""
    unseen = sources.unseen
    wrong = int((unseen.probabilities.argmax(axis=1) != unseen.labels).sum())
    by_split = table["split"].value_counts()
    parts = ", ".join(f"{count:,} in {split}" for split, count in sorted(by_split.items(), reverse=True))
    return (
        f"{len(table):,} of {len(unseen):,} images are suspects{f' ({parts})' if parts else ''}, "
        f"out of {wrong:,} that the model calls differently from their label."
    )


def cell(sources: Sources, row: pd.Series) -> Cell:
    """Return a row of the table as a cell of the picture."""
    return answered(sources, row, f"p {row['p_label']:.3f} → {row['p_predicted']:.3f}")
