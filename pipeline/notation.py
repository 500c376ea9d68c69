"""Parse the network notation, such as `conv - batch norm - conv - maxpool - dropout`.

A block is a list of words joined by " - ". A word can take one argument: `conv 5x5`, `maxpool 3`,
`dropout 0.4`, `batch norm 0.6` (its momentum). Different blocks are joined by " | ". This module parses text
and does not load TensorFlow.

    block  = word { " - " word }
    blocks = block { " | " block }

Words are rows of WORDS. If a block names no activation, every conv and dense layer is followed by a ReLU; if
it names one, activations are exactly where they are named.
"""

import re
from dataclasses import dataclass

from pipeline.errors import BadInput, Table


@dataclass(frozen=True)
class Word:
    """A word of the notation; networks.build.LAYERS maps its name to a Keras layer.

    kind is "conv", "dense", "norm", "activation", "pool" or "dropout"; layer names contain it.
    argument is "size" (pixels), "rate" (0 <= rate < 1) or None if the word takes no argument.
    """

    name: str
    kind: str
    argument: str | None = None
    in_conv_blocks: bool = True
    in_dense_blocks: bool = True


WORDS = Table(
    "word",
    Word("conv", "conv", argument="size", in_dense_blocks=False),
    Word("dense", "dense", in_conv_blocks=False),
    Word("batch norm", "norm", argument="rate"),
    Word("maxpool", "pool", argument="size", in_dense_blocks=False),
    Word("avgpool", "pool", argument="size", in_dense_blocks=False),
    Word("dropout", "dropout", argument="rate"),
    Word("relu", "activation"),
    Word("gelu", "activation"),
)


@dataclass(frozen=True)
class LayerSpec:
    """One parsed word of a block; size (pixels) and rate (0 <= rate < 1) are None if not given."""

    word: Word
    size: int | None = None
    rate: float | None = None


Block = tuple[LayerSpec, ...]


def parse_blocks(text: str, count: int, *, dense: bool) -> tuple[Block, ...]:
    """Return count conv or dense blocks; text has one block for all or one for each. Raises BadInput."""
    blocks = tuple(parse_block(part, dense=dense) for part in text.split("|"))
    if len(blocks) == 1:
        return blocks * count
    if len(blocks) != count:
        kind, widths = ("dense", "unit counts") if dense else ("conv", "filter counts")
        raise BadInput(
            f"{kind} blocks {text!r}: expected one block, or one for each of the {count} {widths}, "
            f"received {len(blocks)}"
        )
    return blocks


def parse_block(text: str, *, dense: bool) -> Block:
    """Parse one block; raise BadInput, which lists the valid words, if one is unknown."""
    block = tuple(_parse_word(part, text, dense=dense) for part in re.split(r"\s+-\s+", text.strip()))
    required = "dense" if dense else "conv"
    if not any(layer.word.kind == required for layer in block):
        raise BadInput(f"block {text!r}: expected at least one {required}, received none")
    return block


def names_activation(block: Block) -> bool:
    """Return whether a block names an activation."""
    return any(layer.word.kind == "activation" for layer in block)


def _parse_word(part: str, text: str, *, dense: bool) -> LayerSpec:
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
        return LayerSpec(word)
    if word.argument == "size" and re.fullmatch(r"(\d{1,2})(x\1)?", argument) and int(argument.split("x")[0]):
        return LayerSpec(word, size=int(argument.split("x")[0]))
    if word.argument == "rate" and re.fullmatch(r"0?\.\d+|0", argument):
        return LayerSpec(word, rate=float(argument))
    expected = {"size": "a size such as 3 or 3x3", "rate": "a rate from 0 to below 1", None: "no argument"}
    raise BadInput(
        f"{part.strip()!r}: expected {expected[word.argument]} after {word.name!r}, received {argument!r}"
    )
