"""The notation: every valid block is parsed correctly, every other text is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.notation import WORDS, parse_block, parse_blocks


def steps(dense: bool):
    """Return a strategy of (word, argument as text or "", size, rate)."""
    words = [word for word in WORDS.values() if (word.in_dense_blocks if dense else word.in_conv_blocks)]

    def step(word):
        options = [st.just((word.name, "", None, None))]
        if word.argument == "size":
            sizes = st.integers(1, 99)
            options.append(sizes.map(lambda size: (word.name, f" {size}", size, None)))
            options.append(sizes.map(lambda size: (word.name, f" {size}x{size}", size, None)))
        if word.argument == "rate":
            options.append(
                st.integers(0, 999).map(lambda n: (word.name, f" 0.{n:03d}", None, float(f"0.{n:03d}")))
            )
        return st.one_of(options)

    return st.sampled_from(words).flatmap(step)


@st.composite
def blocks(draw, dense: bool):
    """Return the steps of a valid block in any order."""
    required = ("dense" if dense else "conv", "", None, None)
    return draw(st.permutations([required, *draw(st.lists(steps(dense), max_size=6))]))


SPACES = st.text(" \t", min_size=1, max_size=3)


@pytest.mark.parametrize("dense", [False, True])
@given(data=st.data())
def test_every_valid_block_is_parsed_correctly(dense, data):
    expected = data.draw(blocks(dense))
    dash = f"{data.draw(SPACES)}-{data.draw(SPACES)}"
    text = dash.join(f"{name}{argument}" for name, argument, *_ in expected)
    text = data.draw(st.sampled_from([text, text.upper(), f"  {text} "]))
    block = parse_block(text, dense=dense)
    assert [(step.word.name, step.size, step.rate) for step in block] == [
        (name, size, rate) for name, _, size, rate in expected
    ]


@given(text=st.text(max_size=60), dense=st.booleans())
def test_any_text_is_a_block_or_is_refused_with_a_message(text, dense):
    with contextlib.suppress(BadInput):
        block = parse_block(text, dense=dense)
        assert any(step.word.kind == ("dense" if dense else "conv") for step in block)


@given(blocks(False), st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12))
def test_a_block_with_an_unknown_word_is_refused_and_the_word_named(block, word):
    if word in WORDS:
        return
    text = " - ".join([*(f"{name}{argument}" for name, argument, *_ in block), word])
    with pytest.raises(BadInput, match=word):
        parse_block(text, dense=False)


@given(st.lists(blocks(False), min_size=1, max_size=4), st.integers(1, 5))
def test_blocks_are_given_once_for_all_or_one_for_each(drawn, count):
    texts = [" - ".join(f"{name}{argument}" for name, argument, *_ in block) for block in drawn]
    if len(texts) in (1, count):
        result = parse_blocks(" | ".join(texts), count, dense=False)
        assert len(result) == count
        assert result[-1] == parse_block(texts[-1], dense=False)
    else:
        with pytest.raises(BadInput, match=f"one for each of the {count} filter counts"):
            parse_blocks(" | ".join(texts), count, dense=False)
