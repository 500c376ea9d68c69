"""Averages of weights over the course of a training, one row each."""

from __future__ import annotations

import keras
import tensorflow as tf

EVERY = 5  # updates from one meeting of slow and fast weights to the next
LAST_SHARE = (
    0.95**EVERY
)  # of the slow weights that stays at the last meeting; both from airbench (Jordan 2024)


class Lookahead:
    """Slow weights that the fast ones are pulled back to (Zhang et al. 2019, "Lookahead Optimizer").

    Every five updates the slow weights move to share * slow + (1 - share) * fast, and the fast weights are
    set to them. share grows with the third power of the progress, so that averaging matters at the end.
    The moving moments of batch normalisation are averaged like the weights.
    """

    def __init__(self, model: keras.Model, updates: int):
        self._fast = [weight.value for weight in model.weights if weight.dtype.startswith("float")]
        self.variables = [tf.Variable(weight, trainable=False) for weight in self._fast]
        self._updates = updates

    def after(self, number: tf.Tensor) -> None:
        """Let the weights meet after so many updates, where it is time."""
        progress = tf.cast(number, tf.float32) / self._updates
        tf.cond(number % EVERY == 0, lambda: self._meet(LAST_SHARE * progress**3), lambda: False)

    def end(self) -> None:
        """Leave the slow weights in the model."""
        self._meet(1.0)

    def _meet(self, share: float | tf.Tensor) -> bool:
        for fast, slow in zip(self._fast, self.variables, strict=True):
            slow.assign(share * slow + (1 - share) * fast)
            fast.assign(slow)
        return True


class NoAverage:
    """The weights as they are."""

    variables = ()

    def __init__(self, model: keras.Model, updates: int):
        pass

    def after(self, number: tf.Tensor) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


AVERAGES: dict[str, type[NoAverage] | type[Lookahead]] = {"none": NoAverage, "lookahead": Lookahead}
