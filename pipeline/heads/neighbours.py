"""Nearest neighbours by cosine: the k most alike training images vote, the more alike the more.

Votes are weighted by exp(cosine / 0.07) as in Wu et al., Unsupervised Feature Learning via Non-Parametric
Instance Discrimination (CVPR 2018), and in DINO's evaluation. Features are standardised first.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.heads.data import HeadData, Points
from pipeline.heads.model import standardised_input
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import NeighboursHead

SHARPNESS = 1 / 0.07
FLOOR = 1e-3  # share of the votes of a class that nobody voted for; temperature is fitted on top
CHUNK = 500  # images that are compared with all others at a time


def fit(recipe: NeighboursHead, data: HeadData, **_: Any) -> keras.Model:
    """Return a model that holds the training rows, in float16, and compares with all of them."""
    features, x = standardised_input(data)
    rows = len(data.train_labels)
    votes = Neighbours(min(recipe.neighbours, rows), rows, data.classes, dtype="float32", name="logits")
    model = keras.Model(features, votes(x))
    members = np.eye(data.classes, dtype=np.float16)[data.train_labels]
    votes.set_weights([_directions(data.train).astype(np.float16), members])
    return model


def answers(
    recipe: NeighboursHead, points: Points, data: HeadData, *, progress: Progress = silent, **_: Any
) -> list[np.ndarray]:
    """Return the answers on val for the `neighbours` of each point, from one comparison."""
    counts = [min(point.get("neighbours", recipe.neighbours), len(data.train_labels)) for point in points]
    bank = tf.constant(_directions(data.train))
    members = tf.one_hot(data.train_labels, data.classes)
    found, queries = [], _directions(data.val)
    for start in range(0, len(queries), CHUNK):
        likeness = tf.matmul(queries[start : start + CHUNK], bank, transpose_b=True)
        totals = tf.cumsum(_votes(likeness, members, max(counts)), axis=1)
        found.append([_log_shares(totals[:, count - 1]).numpy() for count in counts])
        progress("nearest neighbours", min(start + CHUNK, len(queries)), len(queries), "images")
    return [data.by_view(np.concatenate(parts)) for parts in zip(*found, strict=True)]


def _directions(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, D) scaled to length 1; a row of zeros stays one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _log_shares(votes: tf.Tensor) -> tf.Tensor:
    shares = votes / tf.reduce_sum(votes, axis=1, keepdims=True)
    return tf.math.log(shares + FLOOR)


def _votes(likeness: tf.Tensor, members: tf.Tensor, count: int) -> tf.Tensor:
    """Return the votes (B, count, C) of the rows, of the classes members (n, C), of most likeness (B, n)."""
    values, nearest = tf.math.top_k(likeness, count)
    weights = tf.exp(SHARPNESS * (values - values[:, :1]))
    return weights[..., None] * tf.cast(tf.gather(members, nearest), weights.dtype)


@keras.saving.register_keras_serializable(package="headstart")
class Neighbours(keras.layers.Layer):
    """Logarithms (B, C) of the shares of the votes of the nearest rows of a bank (n, D)."""

    def __init__(self, neighbours: int, rows: int, classes: int, **options: Any):
        super().__init__(**options)
        self.neighbours, self.rows, self.classes = neighbours, rows, classes

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the bank (n, D) and the classes of its rows (n, C)."""
        weight = {"initializer": "zeros", "trainable": False, "dtype": "float16"}
        self.bank = self.add_weight(shape=(self.rows, shape[-1]), name="bank", **weight)
        self.members = self.add_weight(shape=(self.rows, self.classes), name="members", **weight)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the answers to standardised rows (B, D)."""
        x = tf.math.l2_normalize(x, axis=1)
        likeness = tf.matmul(x, tf.cast(self.bank, x.dtype), transpose_b=True)
        votes = _votes(likeness, self.members, self.neighbours)
        return _log_shares(tf.reduce_sum(votes, axis=1))

    def get_config(self) -> dict[str, Any]:
        """Return what a saved layer is made again from."""
        sizes = {"neighbours": self.neighbours, "rows": self.rows, "classes": self.classes}
        return {**super().get_config(), **sizes}
