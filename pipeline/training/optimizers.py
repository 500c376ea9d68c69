"""Optimisers and the course of the learning rate, one function and one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def _adamw(rate, weight_decay: float):
    import keras

    return keras.optimizers.AdamW(rate, weight_decay=weight_decay)


def _sgd(rate, weight_decay: float):
    import keras

    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)


OPTIMIZERS = {"adamw": _adamw, "sgd": _sgd}


def _constant(rate: float, updates: int, warmup: int):
    from keras.optimizers.schedules import PiecewiseConstantDecay

    return PiecewiseConstantDecay([max(warmup, 1)], [rate / 10 if warmup else rate, rate])


def _cosine(rate: float, updates: int, warmup: int):
    from keras.optimizers.schedules import CosineDecay

    if warmup:
        return CosineDecay(0.0, max(1, updates - warmup), warmup_target=rate, warmup_steps=warmup)
    return CosineDecay(rate, updates)


SCHEDULES = {"constant": _constant, "cosine": _cosine}


def warmup_updates(share: float, updates: int) -> int:
    """Return over how many of all updates the learning rate rises; the last update is never one of them."""
    return min(round(share * updates), updates - 1)


UNDECAYED = ("bias", "gamma", "beta")  # decay is for kernels: Loshchilov & Hutter 2019, and common practice


def make_optimizer(
    *, optimizer: str, learning_rate: float, schedule: str, warmup: float, weight_decay: float, updates: int
) -> keras.optimizers.Optimizer:
    """Return a Keras optimiser whose learning rate follows schedule over a known number of updates.

    warmup is the share of the updates over which the rate rises. Biases and the weights of batch
    normalisation are not decayed.
    """
    rate = SCHEDULES[schedule](learning_rate, max(1, updates), warmup_updates(warmup, updates))
    made = OPTIMIZERS[optimizer](rate, weight_decay)
    made.exclude_from_weight_decay(var_names=list(UNDECAYED))
    return made
