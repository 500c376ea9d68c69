"""Nearest neighbors by cosine similarity: the k nearest training images vote, weighted by similarity and by
their weights in the loss of other heads.

Votes are weighted by exp(cosine / 0.07) as in Wu et al., Unsupervised Feature Learning via Non-Parametric
Instance Discrimination (CVPR 2018), and in DINO's evaluation. Features are standardized first.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.heads.data import HeadData, Points, Rows, blocks, standardized_input
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import NeighborsHead

SHARPNESS = 1 / 0.07
FLOOR = 1e-3  # added to every class's share of the votes, so that its logarithm is finite
TINY = 1e-30  # least sum of votes, so that neighbors without weight give shares of 0
QUERIES, TILE_ROWS = 1000, 16_384  # val and training images that are compared with each other at a time


def fit(recipe: NeighborsHead, data: HeadData, **_: Any) -> keras.Model:
    """Return a model that stores the training rows and compares inputs (B, D) with all of them.

    It consists of Keras's own layers, so that it loads without this project: a Dense layer without bias
    computes cosines with the n rows, and an Embedding looks up the class of each of the nearest.
    """
    features, x = standardized_input(data)
    rows = len(data.train_labels)
    bank = keras.layers.Dense(rows, use_bias=False, trainable=False, dtype="float32", name="bank")
    members = keras.layers.Embedding(rows, data.classes, trainable=False, dtype="float32", name="members")
    cosines = bank(keras.layers.UnitNormalization(dtype="float32", name="normalize")(x))
    values, nearest = keras.ops.top_k(cosines, min(recipe.neighbours, rows))
    weights = keras.ops.exp(SHARPNESS * (values - keras.ops.max(values, axis=1, keepdims=True)))
    votes = keras.ops.sum(keras.ops.expand_dims(weights, -1) * members(nearest), axis=1)
    shares = votes / keras.ops.maximum(keras.ops.sum(votes, axis=1, keepdims=True), TINY)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(keras.ops.log(shares + FLOOR))
    bank.set_weights([_normalize(data.train[:]).T])
    members.set_weights([data.votes])
    return keras.Model(features, logits)


def predict_logits(
    recipe: NeighborsHead, points: Points, data: HeadData, *, progress: Progress = silent, **_: Any
) -> list[np.ndarray]:
    """Return val logits (V, n, C) for each point's `neighbours`, from one pass over the training rows."""
    counts = [min(point.get("neighbours", recipe.neighbours), len(data.train_labels)) for point in points]
    members, val, chunks = tf.constant(data.votes), data.val, []
    for block, queries in blocks(val, QUERIES):
        similarities, nearest = _nearest(data.train, _normalize(queries), max(counts))
        weights = tf.exp(SHARPNESS * (similarities - similarities[:, :1]))
        totals = tf.cumsum(weights[..., None] * tf.gather(members, nearest), axis=1)  # (B, count, C)
        votes = [totals[:, count - 1] for count in counts]
        shares = [vote / tf.maximum(tf.reduce_sum(vote, axis=1, keepdims=True), TINY) for vote in votes]
        chunks.append([tf.math.log(share + FLOOR).numpy() for share in shares])
        progress("nearest neighbors", min(block.stop, len(val)), len(val), "images")
    return [data.by_view(np.concatenate(parts)) for parts in zip(*chunks, strict=True)]


def _nearest(bank: Rows, queries: np.ndarray, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return similarities and numbers (B, count) of the rows of a bank that are nearest to queries (B, D)."""
    values, numbers = tf.zeros((len(queries), 0)), tf.zeros((len(queries), 0), tf.int32)
    for block, rows in blocks(bank, TILE_ROWS):
        similarities = tf.matmul(queries, _normalize(rows), transpose_b=True)
        best, places = tf.math.top_k(similarities, min(count, len(rows)))
        values, numbers = tf.concat([values, best], 1), tf.concat([numbers, places + block.start], 1)
        values, order = tf.math.top_k(values, min(count, values.shape[1]))  # of equal ones, the first
        numbers = tf.gather(numbers, order, batch_dims=1)
    return values, numbers


def _normalize(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, D) scaled to length 1; rows of zeros stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
