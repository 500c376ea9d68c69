"""The language in which networks are written: `conv - batch norm - conv - maxpool - dropout`.

A block is a list of words joined by " - ". A word may carry one argument: `conv 5x5`, `maxpool 3`,
`dropout 0.4`, `batch norm 0.6` (the share of its running moments that one step keeps). Several different
blocks are joined by " | ". This module reads text; it loads no framework.

    block  = word { " - " word }
    blocks = block { " | " block }

Words are rows of WORDS. Where a block names no activation, every conv and every dense is followed
by a ReLU; where it names one, activations are exactly where they are named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import BadInput


@dataclass(frozen=True)
class Word:
    """A word of the notation; its Keras layer is a row of networks.build.LAYERS.

    kind names its layers and says what it is: "conv", "dense", "norm", "activation", "pool" or "dropout".
    argument is what may stand behind the word: "size" in pixels, "rate" from 0 to below 1, or nothing.
    """

    name: str
    kind: str
    argument: str | None = None
    in_conv_blocks: bool = True
    in_dense_blocks: bool = True


WORDS: dict[str, Word] = {
    word.name: word
    for word in (
        Word("conv", "conv", argument="size", in_dense_blocks=False),
        Word("dense", "dense", in_conv_blocks=False),
        Word("batch norm", "norm", argument="rate"),
        Word("maxpool", "pool", argument="size", in_dense_blocks=False),
        Word("avgpool", "pool", argument="size", in_dense_blocks=False),
        Word("dropout", "dropout", argument="rate"),
        Word("relu", "activation"),
        Word("gelu", "activation"),
    )
}


@dataclass(frozen=True)
class Step:
    """One word of a block as it was read; size in pixels and rate 0 … 1 are None where not given."""

    word: Word
    size: int | None = None
    rate: float | None = None


Block = tuple[Step, ...]


def parse_conv_blocks(text: str, count: int) -> tuple[Block, ...]:
    """Return count convolutional blocks: one text for each, or one text for all. Raises BadInput."""
    return _parse_blocks(text, count, dense=False)


def parse_dense_blocks(text: str, count: int) -> tuple[Block, ...]:
    """Return count dense blocks in the same way; none when count is 0. Raises BadInput."""
    return _parse_blocks(text, count, dense=True) if count else ()


def _parse_blocks(text: str, count: int, *, dense: bool) -> tuple[Block, ...]:
    blocks = tuple(parse_block(part, dense=dense) for part in text.split("|"))
    if len(blocks) == 1:
        return blocks * count
    if len(blocks) != count:
        kind, numbers = ("dense", "numbers of units") if dense else ("conv", "filter numbers")
        raise BadInput(
            f"{kind} blocks {text!r}: expected one block, or one for each of the {count} {numbers}, "
            f"received {len(blocks)}"
        )
    return blocks


def parse_block(text: str, *, dense: bool) -> Block:
    """Return the steps of one block; raise BadInput that lists the words when one is unknown."""
    steps = tuple(_parse_step(part, text, dense=dense) for part in re.split(r"\s+-\s+", text.strip()))
    needed = "dense" if dense else "conv"
    if not any(step.word.kind == needed for step in steps):
        raise BadInput(f"block {text!r}: expected at least one {needed}, received none")
    return steps


def names_activation(block: Block) -> bool:
    """Say whether a block names an activation itself."""
    return any(step.word.kind == "activation" for step in block)


def _parse_step(part: str, text: str, *, dense: bool) -> Step:
    words = {w.name: w for w in WORDS.values() if (w.in_dense_blocks if dense else w.in_conv_blocks)}
    match = re.fullmatch(r"([a-z][a-z\s]*?)(?:\s+([0-9.][0-9.x]*))?", part.strip().lower())
    word = words.get(re.sub(r"\s+", " ", match.group(1))) if match else None
    if match is None or word is None:
        raise BadInput(
            f"{part.strip()!r} in block {text!r}: expected words joined by ' - ', each one of "
            f"{', '.join(words)} (in a {'dense' if dense else 'conv'} block)"
        )
    argument = match.group(2)
    if argument is None:
        return Step(word)
    if word.argument == "size" and re.fullmatch(r"(\d{1,2})(x\1)?", argument) and int(argument.split("x")[0]):
        return Step(word, size=int(argument.split("x")[0]))
    if word.argument == "rate" and re.fullmatch(r"0?\.\d+|0", argument):
        return Step(word, rate=float(argument))
    wanted = {"size": "a size such as 3 or 3x3", "rate": "a rate from 0 to below 1", None: "no argument"}
    raise BadInput(
        f"{part.strip()!r}: expected {wanted[word.argument]} after {word.name!r}, received {argument!r}"
    )
