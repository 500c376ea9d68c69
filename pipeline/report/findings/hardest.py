"""The hardest images: those with the largest loss among images that the run was not trained on."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.report.findings.pictures import Cell, answered
from pipeline.report.findings.sources import Sources

LISTED = 100  # images in the table: more than anybody looks through
SMALLEST = 2.0**-126  # the smallest normal float32: a probability of 0 costs 87.3 nats, not infinity
WORDS = (
    "The loss of an image is -ln p(label) in nats, the largest first; p is cut off at 2^-126 from below. "
    "Among equals the image comes first whose wrong class is more probable."
)


def losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return -ln p(label) in nats, (n,) float64 in 0..87.4; p is clipped at 2^-126 from below."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(true.clip(SMALLEST, 1.0))


def find(sources: Sources) -> pd.DataFrame:
    """Return the LISTED hardest val and test images of a run: the columns of Sources.table, loss (nats)."""
    loss = losses(sources.unseen.probabilities, sources.unseen.labels)
    certainty = sources.unseen.probabilities.max(axis=1)
    hardest = np.lexsort((-certainty, -loss))[:LISTED]
    return sources.table(hardest).assign(loss=loss[hardest].round(4))


def summary(sources: Sources, table: pd.DataFrame) -> str:
    """Return in a sentence how large the losses listed are, beside that of a guess."""
    guess = math.log(len(sources.images.class_names))
    return (
        f"The {len(table):,} hardest of {len(sources.unseen):,} images cost {table['loss'].min():.2f} to "
        f"{table['loss'].max():.2f} nats each; a guess among all classes costs {guess:.2f}."
    )


def cell(sources: Sources, row: pd.Series) -> Cell:
    """Return a row of the table as a cell of the picture."""
    return answered(sources, row, f"loss {row['loss']:.2f}, p {row['p_predicted']:.3f}")
