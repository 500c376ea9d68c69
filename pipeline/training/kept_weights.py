"""Weights that are kept beside those that train: their averages, one row each, and the best on val so far."""

from __future__ import annotations

import keras
import tensorflow as tf

EVERY = 5  # updates from one meeting of slow and fast weights to the next
LAST_SHARE = 0.95**EVERY  # of the slow weights that stays at the last; both from airbench (Jordan 2024)


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


AVERAGES: dict[str, type[Lookahead] | None] = {"none": None, "lookahead": Lookahead}


class Patience:
    """Keeps the weights of the epoch with the best val accuracy; over after so many epochs without a better.

    variables hold all its state: the best weights, their accuracy, and the epochs since.
    """

    def __init__(self, model: keras.Model, epochs: int):
        self._weights, self._epochs = model.weights, epochs
        self._best = [tf.Variable(weight.value, trainable=False) for weight in self._weights]
        self._accuracy = tf.Variable(-1.0, trainable=False, dtype=tf.float64)  # equal is not better
        self._since = tf.Variable(0, trainable=False)
        self.variables = [*self._best, self._accuracy, self._since]

    @property
    def over(self) -> bool:
        """Say whether training should end."""
        return int(self._since) >= self._epochs

    def after(self, accuracy: float) -> None:
        """Take the val accuracy of the weights as they are after an epoch."""
        if accuracy > float(self._accuracy):
            self._accuracy.assign(accuracy)
            self._since.assign(0)
            for best, weight in zip(self._best, self._weights, strict=True):
                best.assign(weight.value)
        else:
            self._since.assign_add(1)

    def end(self) -> None:
        """Leave the best weights in the model."""
        if float(self._accuracy) >= 0:
            for best, weight in zip(self._best, self._weights, strict=True):
                weight.assign(best)
