"""Nearest neighbors by cosine similarity: the k nearest training images vote, weighted by similarity.

Votes are weighted by exp(cosine / 0.07) as in Wu et al., Unsupervised Feature Learning via Non-Parametric
Instance Discrimination (CVPR 2018), and in DINO's evaluation. Features are standardized first.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.heads.data import HeadData, Points
from pipeline.heads.model import standardized_input
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import NeighborsHead

SHARPNESS = 1 / 0.07
FLOOR = 1e-3  # added to every class's share of the votes, so that its logarithm is finite
QUERIES = 500  # val images that are compared with all training images at a time


def fit(recipe: NeighborsHead, data: HeadData, **_: Any) -> keras.Model:
    """Return a model that stores the training rows in float16 and compares inputs with all of them."""
    features, x = standardized_input(data)
    rows = len(data.train_labels)
    votes = Neighbours(min(recipe.neighbours, rows), rows, data.classes, dtype="float32", name="logits")
    model = keras.Model(features, votes(x))
    one_hot = np.eye(data.classes, dtype=np.float16)[data.train_labels]
    votes.set_weights([_normalize(data.train).astype(np.float16), one_hot])
    return model


def predict_logits(
    recipe: NeighborsHead, points: Points, data: HeadData, *, progress: Progress = silent, **_: Any
) -> list[np.ndarray]:
    """Return val logits (V, n, C) for each point's `neighbours`, from one pass over the training rows."""
    counts = [min(point.get("neighbours", recipe.neighbours), len(data.train_labels)) for point in points]
    bank = tf.constant(_normalize(data.train))
    one_hot = tf.one_hot(data.train_labels, data.classes)
    chunks, queries = [], _normalize(data.val)
    for start in range(0, len(queries), QUERIES):
        similarity = tf.matmul(queries[start : start + QUERIES], bank, transpose_b=True)
        totals = tf.cumsum(_votes(similarity, one_hot, max(counts)), axis=1)
        chunks.append([_log_shares(totals[:, count - 1]).numpy() for count in counts])
        progress("nearest neighbors", min(start + QUERIES, len(queries)), len(queries), "images")
    return [data.by_view(np.concatenate(parts)) for parts in zip(*chunks, strict=True)]


def _normalize(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, D) scaled to length 1; rows of zeros stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _log_shares(votes: tf.Tensor) -> tf.Tensor:
    shares = votes / tf.reduce_sum(votes, axis=1, keepdims=True)
    return tf.math.log(shares + FLOOR)


def _votes(similarity: tf.Tensor, one_hot: tf.Tensor, count: int) -> tf.Tensor:
    """Return votes (B, count, C) of the rows most similar by similarity (B, n), of classes one_hot (n, C)."""
    values, nearest = tf.math.top_k(similarity, count)
    weights = tf.exp(SHARPNESS * (values - values[:, :1]))
    return weights[..., None] * tf.cast(tf.gather(one_hot, nearest), weights.dtype)


@keras.saving.register_keras_serializable(package="headstart")
class Neighbours(keras.layers.Layer):
    """Log vote shares (B, C) of the nearest rows in a bank (n, D) of training rows."""

    def __init__(self, neighbours: int, rows: int, classes: int, **options: Any):
        super().__init__(**options)
        self.neighbours, self.rows, self.classes = neighbours, rows, classes

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the bank (n, D) and the one-hot classes of its rows (n, C)."""
        weight = {"initializer": "zeros", "trainable": False, "dtype": "float16"}
        self.bank = self.add_weight(shape=(self.rows, shape[-1]), name="bank", **weight)
        self.members = self.add_weight(shape=(self.rows, self.classes), name="members", **weight)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the logits (B, C) of standardized rows (B, D)."""
        x = tf.math.l2_normalize(x, axis=1)
        similarity = tf.matmul(x, tf.cast(self.bank, x.dtype), transpose_b=True)
        votes = _votes(similarity, self.members, self.neighbours)
        return _log_shares(tf.reduce_sum(votes, axis=1))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that Keras needs to load a saved layer."""
        sizes = {"neighbours": self.neighbours, "rows": self.rows, "classes": self.classes}
        return {**super().get_config(), **sizes}
