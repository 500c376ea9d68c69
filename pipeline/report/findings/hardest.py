"""The hardest images: the held-out images with the largest loss."""

import math

import numpy as np
import pandas as pd

from pipeline.report.findings.sources import FindingSources

MAX_ROWS = 100  # images in the table: more than anyone reviews
MIN_PROBABILITY = 2.0**-126  # the smallest normal float32: a probability of 0 costs 87.3 nats, not infinity
EXPLANATION = (
    "The loss of an image is -ln p(label) in nats, largest first; p is at least 2^-126. Among equal losses, "
    "the image with the more probable wrong class comes first."
)


def losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return -ln p(label) in nats, (n,) float64 in 0..87.4; p is at least 2^-126."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(true.clip(MIN_PROBABILITY, 1.0))


def find(sources: FindingSources) -> pd.DataFrame:
    """Return the hardest val and test images of a run: the columns of FindingSources.table and loss."""
    loss = losses(sources.held_out.probabilities, sources.held_out.labels)
    certainty = sources.held_out.probabilities.max(axis=1)
    hardest = np.lexsort((-certainty, -loss))[:MAX_ROWS]
    return sources.table(hardest).assign(loss=loss[hardest].round(4))


def summary(sources: FindingSources, table: pd.DataFrame) -> str:
    """Return a sentence with the range of the listed losses and the loss of a uniform guess."""
    uniform = math.log(len(sources.images.class_names))
    return (
        f"The {len(table):,} hardest of {len(sources.held_out):,} images have losses of "
        f"{table['loss'].min():.2f} to {table['loss'].max():.2f} nats; a uniform guess has {uniform:.2f}."
    )
