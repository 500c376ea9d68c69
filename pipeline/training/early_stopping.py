"""Early stopping: the best weights on val so far, and when to give up waiting for better ones."""

from __future__ import annotations

import keras
import tensorflow as tf


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


class NoPatience:
    """Training goes on to its last epoch, whose weights stay."""

    variables, over = (), False

    def after(self, accuracy: float) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""
