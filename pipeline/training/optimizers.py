"""Optimizers and learning-rate schedules, one row each."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers import schedules

from pipeline.training.stage import Stage

TRIANGLE_START, TRIANGLE_END = 0.2, 0.07  # fractions of the peak, from airbench (Jordan 2024)
UNDECAYED = ("bias", "gamma", "beta")  # decay kernels only: Loshchilov & Hutter 2019, and common practice

Multiplier = Callable[[tf.Tensor], tf.Tensor]  # from the update number to a factor of the learning rate


def _constant(rate: float, updates: int, warmup: int) -> schedules.LearningRateSchedule:
    return schedules.PiecewiseConstantDecay([max(warmup, 1)], [rate / 10 if warmup else rate, rate])


def _cosine(rate: float, updates: int, warmup: int) -> schedules.LearningRateSchedule:
    decay_steps = max(1, updates - warmup)
    return schedules.CosineDecay(0.0, decay_steps, warmup_target=rate, warmup_steps=warmup)


def _triangle(rate: float, updates: int, warmup: int) -> schedules.LearningRateSchedule:
    if not warmup:
        return schedules.PolynomialDecay(rate, updates, rate * TRIANGLE_END)

    class Triangle(schedules.PolynomialDecay):
        """A linear rise to the peak and a linear decay after it."""

        def __call__(self, step: tf.Tensor) -> tf.Tensor:
            number = tf.cast(step, tf.float32)
            rise = rate * (TRIANGLE_START + (1 - TRIANGLE_START) * number / warmup)
            return tf.minimum(rise, super().__call__(tf.maximum(number - warmup, 0.0)))

    return Triangle(rate, updates - warmup, rate * TRIANGLE_END)


SCHEDULES = {"constant": _constant, "cosine": _cosine, "triangle": _triangle}


class _FusedAdamW(keras.optimizers.AdamW):
    """AdamW with TensorFlow's fused kernel, one pass over memory; equals Keras's AdamW within rounding."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        index, step = self._get_variable_index(variable), tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.convert_to_tensor(learning_rate),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class _Multipliers(keras.optimizers.Optimizer):
    """Adds learning-rate multipliers for some variables, by path, to an optimizer."""

    multipliers: dict[str, Multiplier]

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._multipliers = [self.multipliers.get(variable.path) for variable in variables]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        multiplier = self._multipliers[self._get_variable_index(variable)]
        if multiplier:
            learning_rate = learning_rate * multiplier(self.iterations)
        super().update_step(gradient, variable, learning_rate)


OPTIMIZERS = {"adamw": _FusedAdamW, "sgd": keras.optimizers.SGD}


def warmup_updates(share: float, updates: int) -> int:
    """Return how many of the updates are warmup; the last update never is."""
    return min(round(share * updates), updates - 1)


def make_optimizer(
    stage: Stage, updates: int, *, multipliers: dict[str, Multiplier] | None = None
) -> keras.optimizers.Optimizer:
    """Return a Keras optimizer with the stage's learning-rate schedule over so many updates.

    Weight decay skips biases and batch normalization unless the stage sets decay_biases. multipliers maps the
    path of a variable to a factor of its learning rate (not of its decay), a function of the update number.
    """
    warmup = warmup_updates(stage.warmup, updates)
    rate = SCHEDULES[stage.lr_schedule](stage.learning_rate, max(1, updates), warmup)
    optimizer_class = OPTIMIZERS[stage.optimizer]
    settings: dict[str, Any] = {"weight_decay": stage.weight_decay}
    if stage.optimizer == "sgd":
        settings |= {"momentum": stage.momentum, "nesterov": True}
    if multipliers:
        optimizer_class = type("Multiplied", (_Multipliers, optimizer_class), {"multipliers": multipliers})
    optimizer = optimizer_class(rate, **settings)
    if not stage.decay_biases:
        optimizer.exclude_from_weight_decay(var_names=list(UNDECAYED))
    return optimizer
