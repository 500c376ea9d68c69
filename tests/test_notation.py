"""The notation reads what the lessons write, and names the words that it knows when it cannot."""

from __future__ import annotations

import pytest

from pipeline.errors import BadInput
from pipeline.notation import (
    WORDS,
    Word,
    names_activation,
    parse_block,
    parse_conv_blocks,
    parse_dense_blocks,
)

CONV_WORDS = [word.name for word in WORDS.values() if word.in_conv_blocks]
DENSE_WORDS = [word.name for word in WORDS.values() if word.in_dense_blocks]


def read(text: str, *, dense: bool = False) -> list[tuple]:
    """Return a block as (word, size, rate) tuples."""
    return [(step.word.name, step.size, step.rate) for step in parse_block(text, dense=dense)]


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
def test_a_block_is_its_words_in_order_whatever_their_case_and_spacing(text, words):
    assert read(text) == [(word, None, None) for word in words]


@pytest.mark.parametrize(
    ("part", "step"),
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
def test_a_word_takes_its_argument(part, step):
    assert read(f"conv - {part}") == [("conv", None, None), step]


@pytest.mark.parametrize(
    ("part", "wanted"),
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
def test_a_wrong_argument_is_refused_with_what_the_word_takes(part, wanted):
    with pytest.raises(BadInput, match=f"{part!r}: expected {wanted}"):
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
def test_an_unknown_word_is_refused_with_the_words_of_a_conv_block(text):
    with pytest.raises(BadInput, match=rf"expected words .* {', '.join(CONV_WORDS)} \(in a conv block\)"):
        parse_block(text, dense=False)


def test_an_unknown_word_is_refused_with_the_words_of_a_dense_block():
    with pytest.raises(
        BadInput, match=rf"'lstm' in block 'dense - lstm'.* {', '.join(DENSE_WORDS)} \(in a dense"
    ):
        parse_block("dense - lstm", dense=True)


@pytest.mark.parametrize(
    ("text", "dense", "stranger"),
    [
        ("conv - dense", False, "dense"),
        ("dense - conv", True, "conv"),
        ("dense - maxpool", True, "maxpool"),
        ("dense - avgpool 3", True, "avgpool 3"),
    ],
)
def test_each_kind_of_block_has_its_own_words(text, dense, stranger):
    with pytest.raises(BadInput, match=f"^{stranger!r} in block {text!r}"):
        parse_block(text, dense=dense)


def test_a_conv_block_needs_a_conv_and_a_dense_block_a_dense():
    with pytest.raises(BadInput, match="block 'maxpool - dropout': expected at least one conv"):
        parse_block("maxpool - dropout", dense=False)
    with pytest.raises(BadInput, match="block 'batch norm - dropout': expected at least one dense"):
        parse_block("batch norm - dropout", dense=True)


def test_one_text_stands_for_all_conv_blocks():
    blocks = parse_conv_blocks("conv - maxpool", 3)
    assert blocks == (parse_block("conv - maxpool", dense=False),) * 3


def test_several_texts_are_one_for_each_conv_block():
    blocks = parse_conv_blocks("conv - maxpool | conv - conv | conv 5x5", 3)
    assert blocks == tuple(
        parse_block(text, dense=False) for text in ("conv - maxpool", "conv - conv", "conv 5x5")
    )


def test_a_wrong_number_of_conv_blocks_is_refused_with_both_numbers():
    message = "expected one block, or one for each of the 3 filter numbers, received 2"
    with pytest.raises(BadInput, match=message):
        parse_conv_blocks("conv | conv - maxpool", 3)


def test_one_text_stands_for_all_dense_blocks_and_none_is_needed_for_a_linear_head():
    assert parse_dense_blocks("dense - dropout", 2) == (parse_block("dense - dropout", dense=True),) * 2
    assert parse_dense_blocks("dense - dropout", 0) == ()


def test_dense_blocks_may_differ_and_are_as_many_as_numbers_of_units():
    found = parse_dense_blocks("dense - batch norm | dense - dropout", 2)
    assert found == (
        parse_block("dense - batch norm", dense=True),
        parse_block("dense - dropout", dense=True),
    )
    with pytest.raises(BadInput, match=r"dense blocks 'dense \| dense': .* each of the 3 numbers of units"):
        parse_dense_blocks("dense | dense", 3)


@pytest.mark.parametrize(
    ("text", "named"),
    [("conv - maxpool", False), ("conv - relu", True), ("conv - conv - gelu - maxpool", True)],
)
def test_a_block_says_whether_it_names_an_activation(text, named):
    assert names_activation(parse_block(text, dense=False)) is named


def test_a_new_word_is_a_new_row(monkeypatch):
    monkeypatch.setitem(WORDS, "blur", Word("blur", "blur", argument="size", in_dense_blocks=False))
    assert read("conv - blur 3") == [("conv", None, None), ("blur", 3, None)]
    with pytest.raises(BadInput, match="gelu, blur"):
        parse_block("conv - sharpen", dense=False)
