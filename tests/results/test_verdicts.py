"""The text of a comparison states which differences are significant, within their limits."""

from __future__ import annotations

import pytest

from pipeline.formatting import format_ci, format_p, format_points, join_names
from pipeline.results.comparison import compare, comparison_markdown, comparison_text

SCHEMES = {  # with their skill: the second and third tie, and so do the fifth and sixth
    "fine-tune:whole": 4.0,
    "fine-tune:block5": 2.6,
    "fine-tune:block4": 2.61,
    "from-scratch:a-recipe-with-quite-a-long-name-of-its-own": 1.5,
    "head:linear": 0.9,
    "head:dense": 0.91,
    "head:dense-bn": 0.3,
    "head:dense-bn-dropout": 0.0,
}


@pytest.fixture
def compared(make_run):
    """Return a function that compares the first count schemes, with several seeds each if asked."""

    def make(count: int, seeds: int = 1):
        chosen = list(SCHEMES.items())[:count]
        return compare(
            [
                make_run(f"{place}-{seed}", scheme=name, skill=skill, seed=seed)
                for place, (name, skill) in enumerate(chosen)
                for seed in range(seeds)
            ]
        )

    return make


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_the_text_stays_within_110_columns_and_is_short(compared, count):
    lines = comparison_text(compared(count)).splitlines()
    assert max(map(len, lines)) <= 110
    assert len(lines) <= 2 + count + 20


def test_significant_differences_are_counted_and_the_others_listed(compared):
    text = " ".join(comparison_text(compared(4)).split())
    assert (
        "5 of the 6 differences on the same 300 test images of CIFAR-10 are significant (p < 0.05 in" in text
    )
    assert text.endswith(
        "Not significant: fine-tune:block5 · imagenet · 32 px vs. fine-tune:block4 · imagenet · 32 px (+0.7)"
    )


def test_a_single_pair_has_its_numbers_in_the_sentence(compared):
    sentence = comparison_text(compared(2)).split("\n\n")[-1]
    assert sentence.startswith("The difference on the same 300 test images of CIFAR-10 is significant: +")
    assert " ".join(sentence.split()).endswith("p < 0.001 in McNemar's exact test.")


def test_text_and_page_say_if_no_two_schemes_can_be_compared(compared):
    result, message = compared(1), "No two schemes were tested on the same images"
    assert message in comparison_text(result)
    assert message in comparison_markdown(result, "Comparison")


def test_the_section_ranks_the_schemes_and_lists_the_ranks_of_ties(compared):
    text = comparison_markdown(compared(4), "Comparison").split("## Significant differences")[1]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[0][2:5] for row in rows] == ["1. ", "2. ", "3. ", "4. "]
    assert [row[-1] for row in rows] == ["– |", "3 |", "2 |", "– |"]
    assert "not how other seeds would turn out" in text
    assert "mean over its seeds" not in text


def test_the_note_explains_how_several_seeds_are_tested(compared):
    assert "with more of its seeds" in comparison_markdown(compared(2, seeds=2), "Comparison")


@pytest.mark.parametrize(
    ("difference", "text"), [(0.0123, "+1.2"), (-0.004, "−0.4"), (0.0, "0.0"), (-0.0004, "0.0")]
)
def test_differences_are_formatted_with_their_sign(difference, text):
    assert format_points(difference) == text


def test_intervals_p_values_and_lists_are_formatted():
    assert format_ci(-0.003, 0.021) == "−0.3 to 2.1"
    assert [format_p(p) for p in (0.0002, 0.0123, 1.0)] == ["< 0.001", "= 0.012", "= 1.000"]
    assert [join_names("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
