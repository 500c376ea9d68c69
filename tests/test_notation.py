"""The notation parses valid blocks, and errors list the valid words."""

from __future__ import annotations

import pytest

from pipeline.errors import BadInput
from pipeline.notation import (
    WORDS,
    Word,
    names_activation,
    parse_block,
    parse_blocks,
)

CONV_WORDS = [word.name for word in WORDS.values() if word.in_conv_blocks]
DENSE_WORDS = [word.name for word in WORDS.values() if word.in_dense_blocks]


def parsed(text: str, *, dense: bool = False) -> list[tuple]:
    """Return a parsed block as (word, size, rate) tuples."""
    return [(layer.word.name, layer.size, layer.rate) for layer in parse_block(text, dense=dense)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conv", ["conv"]),
        (
            "conv - batch norm - conv - maxpool - dropout",
            ["conv", "batch norm", "conv", "maxpool", "dropout"],
        ),
        ("conv - avgpool - gelu - relu", ["conv", "avgpool", "gelu", "relu"]),
        ("  Conv -  Batch   NORM\t-\nmaxpool ", ["conv", "batch norm", "maxpool"]),
        ("conv\n- batch\n\tnorm", ["conv", "batch norm"]),
    ],
)
def test_words_are_parsed_in_order_and_case_and_spacing_do_not_matter(text, words):
    assert parsed(text) == [(word, None, None) for word in words]


@pytest.mark.parametrize(
    ("part", "layer"),
    [
        ("conv 5", ("conv", 5, None)),
        ("conv 5x5", ("conv", 5, None)),
        ("CONV  11X11", ("conv", 11, None)),
        ("maxpool 3", ("maxpool", 3, None)),
        ("avgpool 4x4", ("avgpool", 4, None)),
        ("dropout 0.4", ("dropout", None, 0.4)),
        ("dropout .25", ("dropout", None, 0.25)),
        ("dropout 0", ("dropout", None, 0.0)),
        ("dropout 0.0", ("dropout", None, 0.0)),
    ],
)
def test_a_word_takes_its_argument(part, layer):
    assert parsed(f"conv - {part}") == [("conv", None, None), layer]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("conv 0", "a size such as 3 or 3x3 after 'conv', received '0'"),
        ("conv 5x3", "a size such as 3 or 3x3 after 'conv', received '5x3'"),
        ("conv 123", "a size such as 3 or 3x3 after 'conv', received '123'"),
        ("maxpool 2.5", "a size such as 3 or 3x3 after 'maxpool', received '2.5'"),
        ("dropout 1", "a rate from 0 to below 1 after 'dropout', received '1'"),
        ("dropout 1.5", "a rate from 0 to below 1 after 'dropout', received '1.5'"),
        ("dropout 3x3", "a rate from 0 to below 1 after 'dropout', received '3x3'"),
        ("relu 2", "no argument after 'relu', received '2'"),
        ("batch norm 3", "a rate from 0 to below 1 after 'batch norm', received '3'"),
    ],
)
def test_a_wrong_argument_is_rejected_with_the_argument_that_the_word_takes(part, expected):
    with pytest.raises(BadInput, match=f"{part!r}: expected {expected}"):
        parse_block(f"conv - {part}", dense=False)


@pytest.mark.parametrize(
    "text",
    [
        "convolution",
        "conv - pool",
        "conv-maxpool",
        "conv, maxpool",
        "conv - - maxpool",
        "conv - dropout -0.5",
        "conv - maxpool two",
        "",
        "   ",
    ],
)
def test_an_unknown_word_is_rejected_with_a_list_of_the_words_of_a_conv_block(text):
    with pytest.raises(BadInput, match=rf"expected words .* {', '.join(CONV_WORDS)} \(in a conv block\)"):
        parse_block(text, dense=False)


def test_an_unknown_word_is_rejected_with_a_list_of_the_words_of_a_dense_block():
    with pytest.raises(
        BadInput, match=rf"'lstm' in block 'dense - lstm'.* {', '.join(DENSE_WORDS)} \(in a dense"
    ):
        parse_block("dense - lstm", dense=True)


@pytest.mark.parametrize(
    ("text", "dense", "word"),
    [
        ("conv - dense", False, "dense"),
        ("dense - conv", True, "conv"),
        ("dense - maxpool", True, "maxpool"),
        ("dense - avgpool 3", True, "avgpool 3"),
    ],
)
def test_each_kind_of_block_has_its_own_words(text, dense, word):
    with pytest.raises(BadInput, match=f"^{word!r} in block {text!r}"):
        parse_block(text, dense=dense)


def test_a_conv_block_needs_a_conv_and_a_dense_block_a_dense():
    with pytest.raises(BadInput, match="block 'maxpool - dropout': expected at least one conv"):
        parse_block("maxpool - dropout", dense=False)
    with pytest.raises(BadInput, match="block 'batch norm - dropout': expected at least one dense"):
        parse_block("batch norm - dropout", dense=True)


def test_a_single_conv_block_is_repeated():
    blocks = parse_blocks("conv - maxpool", 3, dense=False)
    assert blocks == (parse_block("conv - maxpool", dense=False),) * 3


def test_several_conv_blocks_are_used_in_order():
    blocks = parse_blocks("conv - maxpool | conv - conv | conv 5x5", 3, dense=False)
    assert blocks == tuple(
        parse_block(text, dense=False) for text in ("conv - maxpool", "conv - conv", "conv 5x5")
    )


def test_a_wrong_number_of_conv_blocks_is_rejected_with_both_numbers():
    message = "expected one block, or one for each of the 3 filter counts, received 2"
    with pytest.raises(BadInput, match=message):
        parse_blocks("conv | conv - maxpool", 3, dense=False)


def test_a_single_dense_block_is_repeated_and_a_linear_head_has_none():
    assert parse_blocks("dense - dropout", 2, dense=True) == (parse_block("dense - dropout", dense=True),) * 2
    assert parse_blocks("dense - dropout", 0, dense=True) == ()


def test_several_dense_blocks_need_one_unit_count_each():
    blocks = parse_blocks("dense - batch norm | dense - dropout", 2, dense=True)
    assert blocks == (
        parse_block("dense - batch norm", dense=True),
        parse_block("dense - dropout", dense=True),
    )
    with pytest.raises(BadInput, match=r"dense blocks 'dense \| dense': .* each of the 3 unit counts"):
        parse_blocks("dense | dense", 3, dense=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("conv - maxpool", False), ("conv - relu", True), ("conv - conv - gelu - maxpool", True)],
)
def test_a_block_names_an_activation_or_not(text, expected):
    assert names_activation(parse_block(text, dense=False)) is expected


def test_a_new_word_is_a_new_row(monkeypatch):
    monkeypatch.setitem(WORDS, "blur", Word("blur", "blur", argument="size", in_dense_blocks=False))
    assert parsed("conv - blur 3") == [("conv", None, None), ("blur", 3, None)]
    with pytest.raises(BadInput, match="gelu, blur"):
        parse_block("conv - sharpen", dense=False)
