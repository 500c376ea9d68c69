"""The comparison has the documented columns, formats them well, and its summary states the test result."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import BadInput
from pipeline.formatting import format_count, format_duration
from pipeline.results.comparison import (
    COMPARISON_COLUMNS,
    Comparison,
    choices,
    compare,
    comparison_markdown,
    comparison_text,
    summary,
)
from pipeline.results.paired import DIFFERENCE_COLUMNS
from pipeline.results.table import SCORES, Score
from pipeline.runs.result import LABELED, caption


def row(scheme, accuracy, *, half=0.01, seconds=10.0, weights="imagenet", seed=0) -> dict:
    return {
        **dict.fromkeys((*COMPARISON_COLUMNS, *SCORES), 0),
        **{"scheme": scheme, "weights": weights, "data_set": "CIFAR-10", "seed": seed, "n_test": 10_000},
        **{"accuracy": accuracy, "accuracy_low": accuracy - half, "accuracy_high": accuracy + half},
        **{"total_seconds": seconds, "parameters": 14_714_688, "n_train": 45_000},
        **{"image_size": 32, "input_size": 32},
    }


def pairs_of(table: pd.DataFrame, tied: set) -> pd.DataFrame:
    """Return the differences between the schemes, not significant between two of tied."""
    means = table.groupby([*LABELED], sort=False, as_index=False)["accuracy"].mean()
    ranked = means.sort_values("accuracy", ascending=False, kind="stable").to_dict("records")
    rows = []
    for a, b in itertools.combinations(ranked, 2):
        real = not {a["scheme"], b["scheme"]} <= tied
        lead = a["accuracy"] - b["accuracy"]
        rows.append(
            {
                **{f"{name}_a": a[name] for name in (*LABELED, "accuracy")},
                **{f"{name}_b": b[name] for name in (*LABELED, "accuracy")},
                **{"data_set": "CIFAR-10", "n": 10_000, "seeds_a": 1, "seeds_b": 1, "difference": lead},
                **{"low": lead - 0.01, "high": lead + 0.01, "only_a_right": 9, "only_b_right": 5},
                **{"p": 0.01, "p_holm": 0.001 if real else 0.2, "real": real},
            }
        )
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


def comparison(*rows, tied=()) -> Comparison:
    table = pd.DataFrame(rows)
    return Comparison(table, pairs_of(table, set(tied)), "a caption")


def summary_of(*rows, tied=()) -> str:
    return summary(comparison(*rows, tied=tied))


@pytest.fixture
def two_runs(make_run):
    return [
        make_run(
            "fine-tuned", scheme="fine-tune:block5", skill=2.5, total_seconds=725, parameters=14_714_688
        ),
        make_run("head"),
    ]


def test_the_columns_are_exactly_these(two_runs):
    first = (
        "scheme weights image_size input_size data_set n_train n_test seed accuracy accuracy_low "
        "accuracy_high log_loss epochs train_seconds extract_seconds total_seconds peak_memory_mb "
        "parameters trainable_parameters"
    )
    assert tuple(first.split()) == COMPARISON_COLUMNS
    others = ["balanced_accuracy", "calibration_error", "macro_f1"]
    assert list(compare(two_runs).table.columns) == [*COMPARISON_COLUMNS, *others]


def test_there_is_one_row_for_each_run_in_the_order_given(two_runs):
    table = compare(two_runs).table
    assert table["scheme"].tolist() == ["fine-tune:block5", "head:linear"]
    assert table["data_set"].tolist() == ["CIFAR-10"] * 2
    assert table["n_test"].tolist() == [300, 300]
    assert (table["accuracy_low"] < table["accuracy"]).all()


def test_comparing_no_runs_is_an_error():
    with pytest.raises(BadInput, match="at least one run"):
        compare([])


def test_comparing_runs_of_several_data_sets_is_an_error(make_run):
    runs = [make_run("here"), make_run("elsewhere", scheme="head:dense", dataset_title="digits")]
    with pytest.raises(BadInput, match="runs on the same data set, received runs on CIFAR-10 and digits"):
        compare(runs)


def test_the_tables_survive_csv(two_runs, tmp_path):
    compared, reloaded = compare(two_runs), {}
    for name in ("table", "differences"):
        table = getattr(compared, name)
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        reloaded[name] = pd.read_csv(tmp_path / f"{name}.csv")
        pd.testing.assert_frame_equal(reloaded[name], table)
    assert comparison_text(dataclasses.replace(compared, **reloaded)) == comparison_text(compared)


def highest_confidence(probabilities, labels):
    return float(np.max(probabilities))


def test_a_score_added_as_a_row_becomes_a_column(two_runs, monkeypatch):
    row = Score("surest", "highest confidence", f"{__name__}:highest_confidence", unit="%")
    monkeypatch.setitem(SCORES, "surest", row)
    compared = compare(two_runs)
    assert compared.table.columns[-1] == "surest"
    assert "| highest confidence |" in comparison_markdown(compared, "Comparison")


def test_the_summary_states_lead_cost_and_significance():
    sentence = summary_of(row("head:linear", 0.60, seconds=20), row("fine-tune:block5", 0.70, seconds=250))
    assert sentence == (
        "fine-tune:block5 · imagenet · 32 px is the most accurate on the 10,000 test images of CIFAR-10, "
        "with 70.0 % (69.0–71.0), 10.0 points above head:linear · imagenet · 32 px, the cheapest head, and "
        "takes 12 times as long (4 min 10 s vs. 20.0 s); it differs significantly from every other scheme in "
        "the paired test."
    )


def test_the_summary_says_if_the_lead_is_not_significant():
    rows = row("head:linear", 0.69, seconds=20), row("fine-tune:block5", 0.70, seconds=50)
    sentence = summary_of(*rows, tied=["head:linear", "fine-tune:block5"])
    assert "1.0 point above head:linear · imagenet · 32 px" in sentence
    assert "2.5 times" in sentence
    assert (
        "it does not differ significantly from head:linear · imagenet · 32 px in the paired test" in sentence
    )


def test_the_summary_names_no_ratio_of_equal_costs():
    sentence = summary_of(row("head:linear", 0.60, seconds=20), row("head:dense", 0.70, seconds=20.4))
    assert "the cheapest head, in about the same time (20.4 s vs. 20.0 s)" in sentence


def test_the_paired_test_decides_even_if_the_separate_intervals_overlap():
    sentence = summary_of(row("head:linear", 0.695), row("fine-tune:block5", 0.70))
    assert "differs significantly from every other scheme" in sentence


def test_the_summary_names_three_ties_and_counts_the_others():
    rows = [row(f"head:{name}", 0.7 - place / 1000) for place, name in enumerate("abcdef")]
    some = summary_of(*rows, tied=["head:a", "head:b", "head:d"])
    assert "from head:b · imagenet · 32 px and head:d · imagenet · 32 px in the" in some
    every = summary_of(*rows, tied=[line["scheme"] for line in rows])
    assert (
        "from head:b · imagenet · 32 px, head:c · imagenet · 32 px, head:d · imagenet · 32 px "
        "and 2 more in the" in every
    )


def test_a_head_on_random_features_is_not_the_cheapest_head():
    control = row("head:linear", 0.50, seconds=10, weights="random")
    sentence = summary_of(
        control, row("head:linear", 0.60, seconds=20), row("fine-tune:block5", 0.70, seconds=40)
    )
    assert (
        "10.0 points above head:linear · imagenet · 32 px, the cheapest head, and takes 2.0 times" in sentence
    )
    assert "points above head:linear · random · 32 px" in summary_of(
        control, row("fine-tune:block5", 0.70, seconds=40)
    )


def test_the_summary_says_if_the_best_head_is_also_the_cheapest():
    sentence = summary_of(row("head:linear", 0.8, seconds=5), row("from-scratch:small", 0.7, weights="none"))
    assert "10.0 points above from-scratch:small · 32 px, and is also the cheapest head (5.0 s)" in sentence


def test_a_scheme_is_compared_by_the_mean_over_its_seeds_not_by_its_best_seed():
    lucky = [row("head:lucky", accuracy, seed=seed) for seed, accuracy in enumerate((0.5, 0.9))]
    steady = [row("head:steady", 0.8, seed=seed) for seed in range(2)]
    sentence = summary_of(*lucky, *steady, tied=["head:lucky", "head:steady"])
    assert sentence.startswith("head:steady · imagenet · 32 px is the most accurate")
    assert "(mean of 2 seeds)" in sentence
    assert "does not differ significantly from head:lucky" in sentence


def test_a_single_scheme_has_no_comparison():
    assert "there is no other scheme to compare with" in summary_of(row("head:linear", 0.6))


def test_choices_name_the_most_accurate_scheme_within_each_budget_by_total_time_and_by_one_more_training():
    head = {**row("head:linear", 0.8, seconds=70), "extract_seconds": 50}
    dense = {**row("head:dense", 0.9, seconds=601), "extract_seconds": 550}
    whole = {**row("fine-tune:whole", 0.95, seconds=3600), "extract_seconds": 0}
    assert choices(comparison(head, dense, whole)) == [
        "Most accurate by total time: nothing within a minute; head:linear · imagenet · 32 px "
        "(80.0 %) within ten minutes; fine-tune:whole · imagenet · 32 px (95.0 %) within an hour.",
        "Most accurate by the time of one more training: head:dense · imagenet · 32 px (90.0 %) within a "
        "minute and ten minutes; fine-tune:whole · imagenet · 32 px (95.0 %) within an hour.",
    ]


def test_the_best_accuracy_is_bold_and_numbers_are_formatted(two_runs):
    text = comparison_markdown(compare(two_runs), "Comparison")
    assert text.startswith("# Comparison\n")
    lines = text.splitlines()
    assert "| **" in next(line for line in lines if line.startswith("| fine-tune:block5"))
    assert "**" not in next(line for line in lines if line.startswith("| head:linear"))
    assert text.index("is the most accurate") < text.index("## Significant differences")
    assert "| 12 min 05 s |" in text
    assert "| 14.7 M |" in text
    assert "1,600 train / 100 val / 300 test" in text


def test_the_terminal_table_is_aligned_and_narrow():
    rows = [row(f"fine-tune:{'a-very-long-name-' * 8}", 0.9), row("head:linear", 0.6, seconds=4000)]
    lines = comparison_text(comparison(*rows)).splitlines()
    assert max(map(len, lines)) <= 110
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("scheme")) :]
    assert len({len(line) for line in table[:4]}) == 1
    assert "…" in table[2]


def test_a_caption_has_each_fact_once(make_run):
    runs = [
        make_run(f"{seed}", seed=seed, weights=weights) for seed, weights in ((0, "imagenet"), (1, "none"))
    ]
    assert caption(*runs) == (
        "CIFAR-10 (1,600 train / 100 val / 300 test) · weights imagenet, none · images 32 px, "
        "input 32 px · bfloat16 · seeds 0, 1"
    )
    runs.append(make_run("final", n_train=1700, n_val=0))
    assert caption(*runs).startswith(
        "CIFAR-10 (1,600 train / 100 val / 300 test) · CIFAR-10 (1,700 train / 0 val / 300 test) · weights"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.25 s"),
        (0.999, "1.0 s"),
        (3.44, "3.4 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_durations_are_formatted(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(990, "990"), (12_810, "12.8 k"), (999_999, "1.0 M"), (14_714_688, "14.7 M")]
)
def test_numbers_of_parameters_are_formatted(count, text):
    assert format_count(count) == text


def test_a_training_that_destroyed_its_weights_has_a_warning_in_every_text(make_run):
    fine = make_run("fine")
    broken = make_run("broken", scheme="fine-tune:whole", warnings=["the first epoch destroyed weights"])
    compared = compare([fine, broken])
    warning = "Warning for fine-tune:whole · imagenet · 32 px, seed 0: the first epoch destroyed weights."
    assert compared.warnings == (warning,)
    assert warning in comparison_markdown(compared, "A title")
    assert warning in comparison_text(compared)
    assert compare([fine]).warnings == ()
