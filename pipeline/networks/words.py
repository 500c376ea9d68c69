"""The words of the notation, one function and one row each; importing this module loads no framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    from pipeline.networks.notation import Step


@dataclass(frozen=True)
class Word:
    """A word of the notation.

    kind names its layers and says what it is: "conv", "dense", "norm", "activation", "pool" or "dropout".
    make returns its Keras layer, given the step as it was read and keywords: width (filters or units),
    activation (the implied one, or None), dropout (the recipe's rate) and name. argument is what may stand
    behind the word: "size" in pixels, "rate" from 0 to below 1, or nothing.
    """

    name: str
    kind: str
    make: Callable[..., keras.layers.Layer]
    argument: str | None = None
    in_conv_blocks: bool = True
    in_dense_blocks: bool = True


def _conv(step: Step, *, width: int, activation: str | None, dropout: float, name: str) -> keras.layers.Layer:
    import keras

    return keras.layers.Conv2D(width, step.size or 3, padding="same", activation=activation, name=name)


def _dense(
    step: Step, *, width: int, activation: str | None, dropout: float, name: str
) -> keras.layers.Layer:
    import keras

    return keras.layers.Dense(width, activation=activation, name=name)


def _batch_norm(
    step: Step, *, width: int, activation: str | None, dropout: float, name: str
) -> keras.layers.Layer:
    import keras

    momentum = 0.9 if step.rate is None else step.rate
    return keras.layers.BatchNormalization(momentum=momentum, name=name)


def _maxpool(
    step: Step, *, width: int, activation: str | None, dropout: float, name: str
) -> keras.layers.Layer:
    import keras

    return keras.layers.MaxPooling2D(step.size or 2, name=name)


def _avgpool(
    step: Step, *, width: int, activation: str | None, dropout: float, name: str
) -> keras.layers.Layer:
    import keras

    return keras.layers.AveragePooling2D(step.size or 2, name=name)


def _dropout(
    step: Step, *, width: int, activation: str | None, dropout: float, name: str
) -> keras.layers.Layer:
    import keras

    return keras.layers.Dropout(dropout if step.rate is None else step.rate, name=name)


def _activation(
    step: Step, *, width: int, activation: str | None, dropout: float, name: str
) -> keras.layers.Layer:
    import keras

    return keras.layers.Activation(step.word.name, name=name)


WORDS: dict[str, Word] = {
    word.name: word
    for word in (
        Word("conv", "conv", _conv, argument="size", in_dense_blocks=False),
        Word("dense", "dense", _dense, in_conv_blocks=False),
        Word("batch norm", "norm", _batch_norm, argument="rate"),
        Word("maxpool", "pool", _maxpool, argument="size", in_dense_blocks=False),
        Word("avgpool", "pool", _avgpool, argument="size", in_dense_blocks=False),
        Word("dropout", "dropout", _dropout, argument="rate"),
        Word("relu", "activation", _activation),
        Word("gelu", "activation", _activation),
    )
}
