"""Copies of the trained weights: their averages, and the best on val for early stopping."""

import keras
import tensorflow as tf

SYNC_EVERY = 5  # updates between two averaging steps
FINAL_DECAY = 0.95**SYNC_EVERY  # of the slow weights at the last step; both from airbench (Jordan 2024)


class Lookahead:
    """Slow weights that average the fast ones that are trained (Zhang et al. 2019, "Lookahead Optimizer").

    Every five updates, slow = decay * slow + (1 - decay) * fast, and fast = slow. decay grows with the
    cube of the progress, so averaging acts near the end. It includes the statistics of batch normalization.
    """

    def __init__(self, model: keras.Model, updates: int):
        self._fast = [weight.value for weight in model.weights if weight.dtype.startswith("float")]
        self.variables = [tf.Variable(weight, trainable=False) for weight in self._fast]
        self._updates = updates

    def after_update(self, number: tf.Tensor) -> None:
        """Average the weights after update number, counted from 1, if it is due."""
        progress = tf.cast(number, tf.float32) / self._updates
        tf.cond(number % SYNC_EVERY == 0, lambda: self._sync(FINAL_DECAY * progress**3), lambda: False)

    def finish(self) -> None:
        """Copy the slow weights into the model."""
        self._sync(1.0)

    def _sync(self, decay: float | tf.Tensor) -> bool:
        for fast, slow in zip(self._fast, self.variables, strict=True):
            slow.assign(decay * slow + (1 - decay) * fast)
            fast.assign(slow)
        return True


AVERAGES: dict[str, type[Lookahead] | None] = {"none": None, "lookahead": Lookahead}


class EarlyStopping:
    """Keeps the weights with the best val accuracy; stops after patience epochs without a better one.

    variables hold its state: the best weights, their accuracy, and the epochs since.
    """

    def __init__(self, model: keras.Model, patience: int):
        self._weights, self._patience = model.weights, patience
        self._best = [tf.Variable(weight.value, trainable=False) for weight in self._weights]
        self._accuracy = tf.Variable(-1.0, trainable=False, dtype=tf.float64)
        self._since = tf.Variable(0, trainable=False)
        self.variables = [*self._best, self._accuracy, self._since]

    @property
    def should_stop(self) -> bool:
        """Whether training should stop."""
        return int(self._since) >= self._patience

    def after_epoch(self, accuracy: float) -> None:
        """Record the val accuracy after an epoch; keep the weights if it is the best so far."""
        if accuracy > float(self._accuracy):
            self._accuracy.assign(accuracy)
            self._since.assign(0)
            for best, weight in zip(self._best, self._weights, strict=True):
                best.assign(weight.value)
        else:
            self._since.assign_add(1)

    def finish(self) -> None:
        """Copy the best weights into the model."""
        if float(self._accuracy) >= 0:
            for best, weight in zip(self._best, self._weights, strict=True):
                weight.assign(best)
