"""Likely label errors, by confident learning on a run's predictions for held-out images."""

import warnings

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues

from pipeline.report.findings.sources import FindingSources

EXPLANATION = (
    "Confident learning (Northcutt, Jiang & Chuang, Journal of Artificial Intelligence Research 70, 2021; "
    "cleanlab): an image counts toward class j if its probability of j is at least the mean probability of "
    "j among the images labeled j. These counts estimate how many images of each class are labeled as each "
    "other class. That many are listed, largest margin between another class and the label first. The model "
    "was not trained on these images. Review the list by eye: it also contains correctly labeled images that "
    "a weak model gets wrong."
)


def likely_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the positions (k,) int64 of images that are probably mislabeled, most likely first.

    probabilities is (n, C) float32 whose rows sum to 1, from a model that was not trained on these images;
    labels is (n,) int64. Images are pruned by noise rate and ranked by the normalized margin p(label) -
    max p(other), section 3.2 of Northcutt et al. 2021. Images whose label is the most probable class are
    never listed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab warns of classes without images, which are fine here
        positions = find_label_issues(
            labels,
            probabilities,
            filter_by="prune_by_noise_rate",
            return_indices_ranked_by="normalized_margin",
            n_jobs=1,  # more would fork
        )
    positions = np.asarray(positions, dtype=np.int64)
    return positions[probabilities.argmax(axis=1)[positions] != labels[positions]]


def find(sources: FindingSources) -> pd.DataFrame:
    """Return the likely label errors of a run's val and test images: the columns of FindingSources.table."""
    return sources.table(likely_label_errors(sources.held_out.probabilities, sources.held_out.labels))


def summary(sources: FindingSources, table: pd.DataFrame) -> str:
    """Return a sentence with the number of suspects and of images."""
    held_out = sources.held_out
    wrong = int((held_out.probabilities.argmax(axis=1) != held_out.labels).sum())
    by_split = table["split"].value_counts()
    parts = ", ".join(f"{count:,} in {split}" for split, count in sorted(by_split.items(), reverse=True))
    return (
        f"{len(table):,} of {len(held_out):,} images are suspects{f' ({parts})' if parts else ''}. "
        f"The model disagrees with the label of {wrong:,} images."
    )
