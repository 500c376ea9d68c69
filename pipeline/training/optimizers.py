"""Optimisers and the course of the learning rate, one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import (
    CosineDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

from pipeline.training.stage import Stage

TRIANGLE_START, TRIANGLE_END = 0.2, 0.07  # shares of the peak: those of airbench (Jordan 2024)
UNDECAYED = ("bias", "gamma", "beta")  # decay is for kernels: Loshchilov & Hutter 2019, and common practice

Multiplier = Callable[[tf.Tensor], tf.Tensor]  # from the number of the update to a factor of the rate


def _constant(rate: float, updates: int, warmup: int) -> LearningRateSchedule:
    return PiecewiseConstantDecay([max(warmup, 1)], [rate / 10 if warmup else rate, rate])


def _cosine(rate: float, updates: int, warmup: int) -> LearningRateSchedule:
    if warmup:
        return CosineDecay(0.0, max(1, updates - warmup), warmup_target=rate, warmup_steps=warmup)
    return CosineDecay(rate, updates)


def _triangle(rate: float, updates: int, warmup: int) -> LearningRateSchedule:
    if not warmup:
        return PolynomialDecay(rate, updates, rate * TRIANGLE_END)

    class Triangle(PolynomialDecay):
        """A straight line up to the peak, and another down from it."""

        def __call__(self, step: tf.Tensor) -> tf.Tensor:
            number = tf.cast(step, tf.float32)
            rise = rate * (TRIANGLE_START + (1 - TRIANGLE_START) * number / warmup)
            return tf.minimum(rise, super().__call__(tf.maximum(number - warmup, 0.0)))

    return Triangle(rate, updates - warmup, rate * TRIANGLE_END)


SCHEDULES = {"constant": _constant, "cosine": _cosine, "triangle": _triangle}


class _OnePassAdamW(keras.optimizers.AdamW):
    """AdamW with TensorFlow's own operation, one pass over memory where Keras takes one for each term.

    It computes what Keras computes, each weight in the same order of terms, within rounding.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        place, step = self._get_variable_index(variable), tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.convert_to_tensor(learning_rate),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class _Multiplied(keras.optimizers.Optimizer):
    """A mixin for optimisers: learning-rate multipliers for some variables, by path."""

    multipliers: dict[str, Multiplier]

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._multipliers = [self.multipliers.get(variable.path) for variable in variables]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        multiplier = self._multipliers[self._get_variable_index(variable)]
        if multiplier:
            learning_rate = learning_rate * multiplier(self.iterations)
        super().update_step(gradient, variable, learning_rate)


OPTIMIZERS = {"adamw": _OnePassAdamW, "sgd": keras.optimizers.SGD}


def warmup_updates(share: float, updates: int) -> int:
    """Return over how many of all updates the learning rate rises; the last update is never one of them."""
    return min(round(share * updates), updates - 1)


def make_optimizer(
    stage: Stage, updates: int, *, multipliers: dict[str, Multiplier] | None = None, quick: bool = True
) -> keras.optimizers.Optimizer:
    """Return a Keras optimiser whose learning rate follows the stage's over a known number of updates.

    Biases and the weights of batch normalisation are not decayed unless the stage's decay_biases says so.
    multipliers has, by the path of a variable, a factor of its learning rate (not of its decay), a function
    of the number of the update. Without quick AdamW is Keras's own.
    """
    warmup = warmup_updates(stage.warmup, updates)
    rate = SCHEDULES[stage.lr_schedule](stage.learning_rate, max(1, updates), warmup)
    kind = OPTIMIZERS[stage.optimizer]
    settings: dict[str, Any] = {"weight_decay": stage.weight_decay}
    if stage.optimizer == "sgd":
        settings |= {"momentum": stage.momentum, "nesterov": True}
    elif not quick:
        kind = keras.optimizers.AdamW
    if multipliers:
        kind = type("Multiplied", (_Multiplied, kind), {"multipliers": multipliers})
    made = kind(rate, **settings)
    if not stage.decay_biases:
        made.exclude_from_weight_decay(var_names=list(UNDECAYED))
    return made
