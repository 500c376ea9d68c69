"""The text and the matrix of a comparison state which differences are significant, within their limits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.formatting import format_ci, format_p, format_points, join_names
from pipeline.report.plots import differences, publish_plots
from pipeline.report.table import COMPARISON_PLOTS
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


def test_text_and_plot_say_if_no_two_schemes_can_be_compared(compared):
    result, message = compared(1), "No two schemes were tested on the same images"
    assert message in comparison_text(result)
    assert message in comparison_markdown(result, "Comparison")
    figure = differences(result)
    assert figure.axes[0].texts[0].get_text() == message.lower()


def test_the_section_ranks_the_schemes_and_lists_the_ranks_of_ties(compared):
    text = comparison_markdown(compared(4), "Comparison").split("## Significant differences")[1]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[0][2:5] for row in rows] == ["1. ", "2. ", "3. ", "4. "]
    assert [row[-1] for row in rows] == ["– |", "3 |", "2 |", "– |"]
    assert "not how other seeds would turn out" in text
    assert "mean over its seeds" not in text


def test_the_note_explains_how_several_seeds_are_tested(compared):
    assert "with more of its seeds" in comparison_markdown(compared(2, seeds=2), "Comparison")


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_matrix_has_a_cell_for_each_pair_and_hatches_those_not_significant(compared, count):
    result = compared(count)
    patches = differences(result).axes[0].patches
    hatched = [cell for cell in patches if cell.get_hatch()]
    assert len(patches) == len(result.differences) == count * (count - 1) // 2
    assert len(hatched) == (~result.differences["real"]).sum()


def test_the_matrix_has_a_legend_and_the_numbers_of_the_table(compared):
    result = compared(4)
    axes = differences(result).axes[0]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["significant (darker: larger difference)", "not significant after Holm's correction"]
    rows = result.differences
    numbers = [
        text
        for low, high, lead in zip(rows["low"], rows["high"], rows["difference"], strict=True)
        for text in (format_points(lead), format_ci(low, high))
    ]
    assert [text.get_text() for text in axes.texts] == numbers


@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_plot_is_not_blank(compared, tmp_path, count):
    publish_plots(tmp_path, {"differences": COMPARISON_PLOTS["differences"]}, compared(count))
    pixels = np.asarray(Image.open(tmp_path / "differences.png").convert("L"))
    assert 0.005 < (pixels < 250).mean() < 0.6
    assert (pixels < 100).any()


def test_cells_and_labels_follow_the_ranking(make_run):
    skills = {"head:linear": 1.0, "head:dense": 2.0, "head:knn": 0.3}
    runs = [make_run(name[5:], scheme=name, skill=skill) for name, skill in skills.items()]
    axes = differences(compare(runs)).axes[0]
    assert [cell.get_xy() for cell in axes.patches] == [(-0.48, -0.46), (0.52, -0.46), (0.52, 0.54)]
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["head:linear · imagenet · 32 px", "head:knn · imagenet · 32 px"]


@pytest.mark.parametrize(
    ("difference", "text"), [(0.0123, "+1.2"), (-0.004, "−0.4"), (0.0, "0.0"), (-0.0004, "0.0")]
)
def test_differences_are_formatted_with_their_sign(difference, text):
    assert format_points(difference) == text


def test_intervals_p_values_and_lists_are_formatted():
    assert format_ci(-0.003, 0.021) == "−0.3 to 2.1"
    assert [format_p(p) for p in (0.0002, 0.0123, 1.0)] == ["< 0.001", "= 0.012", "= 1.000"]
    assert [join_names("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
