"""Nearest neighbors by cosine similarity: the k nearest training images vote, weighted by similarity and by
their weights in the loss of other heads.

Votes are weighted by exp(cosine / 0.07) as in Wu et al., Unsupervised Feature Learning via Non-Parametric
Instance Discrimination (CVPR 2018), and in DINO's evaluation. Features are standardized first.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.heads.data import HeadData, Points, standardized_input
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import NeighborsHead

SHARPNESS = 1 / 0.07
FLOOR = 1e-3  # added to every class's share of the votes, so that its logarithm is finite
TINY = 1e-30  # least sum of votes, so that neighbors without weight give shares of 0
QUERIES = 500  # val images that are compared with all training images at a time


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
    bank.set_weights([_normalize(data.train).T])
    members.set_weights([data.votes])
    return keras.Model(features, logits)


def predict_logits(
    recipe: NeighborsHead, points: Points, data: HeadData, *, progress: Progress = silent, **_: Any
) -> list[np.ndarray]:
    """Return val logits (V, n, C) for each point's `neighbours`, from one pass over the training rows."""
    counts = [min(point.get("neighbours", recipe.neighbours), len(data.train_labels)) for point in points]
    bank = tf.constant(_normalize(data.train))
    members = tf.constant(data.votes)
    chunks, queries = [], _normalize(data.val)
    for start in range(0, len(queries), QUERIES):
        similarity = tf.matmul(queries[start : start + QUERIES], bank, transpose_b=True)
        values, nearest = tf.math.top_k(similarity, max(counts))
        weights = tf.exp(SHARPNESS * (values - values[:, :1]))
        totals = tf.cumsum(weights[..., None] * tf.gather(members, nearest), axis=1)  # (B, count, C)
        votes = [totals[:, count - 1] for count in counts]
        shares = [vote / tf.maximum(tf.reduce_sum(vote, axis=1, keepdims=True), TINY) for vote in votes]
        chunks.append([tf.math.log(share + FLOOR).numpy() for share in shares])
        progress("nearest neighbors", min(start + QUERIES, len(queries)), len(queries), "images")
    return [data.by_view(np.concatenate(parts)) for parts in zip(*chunks, strict=True)]


def _normalize(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, D) scaled to length 1; rows of zeros stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
