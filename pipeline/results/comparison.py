"""Compare runs: test scores and costs of each scheme, significant differences, one-sentence summaries."""

import textwrap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.errors import BadInput
from pipeline.formatting import (
    format_count,
    format_duration,
    format_share,
    format_value,
    join_names,
    markdown_table,
)
from pipeline.results.paired import paired_differences
from pipeline.results.scores import result_row
from pipeline.results.table import SCORES
from pipeline.results.verdicts import ranking_of, ties_sentence, verdicts_markdown, verdicts_text
from pipeline.runs.result import LABELED, RunResult, caption, family_of, label, label_of

COMPARISON_COLUMNS = (
    "scheme", "weights", "image_size", "input_size", "data_set", "n_train", "n_test", "seed",
    "accuracy", "accuracy_low", "accuracy_high", "log_loss", "epochs",
    "train_seconds", "extract_seconds", "total_seconds", "peak_memory_mb",
    "parameters", "trainable_parameters",
)  # fmt: skip
TEXT_WIDTH = 110
BUDGETS = {"a minute": 60.0, "ten minutes": 600.0, "an hour": 3600.0}  # seconds
DURATIONS = {"train_seconds": "training", "extract_seconds": "extraction", "total_seconds": "total time"}


@dataclass(frozen=True, eq=False)
class Comparison:
    """The data behind the tables, plots and sentences of a comparison.

    table has one row for each run, with COMPARISON_COLUMNS and any other rows of SCORES; differences has one
    row for each pair of schemes, with DIFFERENCE_COLUMNS. caption goes under all of them. warnings are
    sentences about failed trainings.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    caption: str
    warnings: tuple[str, ...] = ()


def compare(runs: Sequence[RunResult]) -> Comparison:
    """Return the comparison of runs: one row for each run (a scheme and a seed), in the order given.

    Scores are on test, fractions in 0..1 (log_loss in nats); times are in seconds, memory in MB.
    Raises BadInput if there are no runs, or if they differ in the data set or the test images.
    """
    if not runs:
        raise BadInput("expected at least one run to compare, received none; train a scheme first")
    if len(titles := sorted({run.recipe["dataset_title"] for run in runs})) > 1:
        raise BadInput(f"expected runs on the same data set, received runs on {join_names(titles)}")
    warnings = tuple(
        f"Warning for {label(run)}, seed {run.recipe['seed']}: {text}."
        for run in runs
        for text in run.recipe.get("warnings", ())
    )
    columns = list(dict.fromkeys((*COMPARISON_COLUMNS, *SCORES)))
    table = pd.DataFrame([result_row(run) for run in runs], columns=columns)
    return Comparison(table, paired_differences(runs), caption(*runs), warnings)


def comparison_markdown(comparison: Comparison, title: str) -> str:
    """Return the comparison as Markdown: title, table (best in bold), summary, caption, differences."""
    titles = {
        **{"scheme": "scheme", "weights": "weights", "image_size": "image px", "input_size": "input px"},
        **{"data_set": "data set (train / test)", "seed": "seed"},
        **{name: row.title for name, row in SCORES.items()},
        **{"epochs": "epochs", **DURATIONS, "peak_memory_mb": "peak memory"},
        **{"parameters": "parameters", "trainable_parameters": "trainable"},
    }
    highest, rows = comparison.table["accuracy"].max(), []
    for row in comparison.table.to_dict("records"):
        cells = _format_row(row)
        if row["accuracy"] == highest:
            cells["accuracy"] = f"**{cells['accuracy']}**"
        rows.append([cells[name] for name in titles])
    table = markdown_table(list(titles.values()), rows)
    note = f"Test accuracy with 95 % Wilson interval. {comparison.caption}."
    verdicts = verdicts_markdown(comparison.differences)
    sentences = [summary(comparison), *choices(comparison), *comparison.warnings]
    parts = [f"# {title}", table, *sentences, note, verdicts]
    return "\n\n".join(parts) + "\n"


def comparison_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal, at most 110 columns wide, from headlines to differences."""
    titles = {
        **{"label": "scheme", "seed": "seed", "accuracy": "test accuracy", "log_loss": "log loss"},
        **{"train_seconds": "training", "total_seconds": "total time", "peak_memory_mb": "memory"},
    }
    formatted = map(_format_row, comparison.table.to_dict("records"))
    rows = [list(titles.values()), *([cells[name] for name in titles] for cells in formatted)]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    first = min(first, TEXT_WIDTH - sum(width + 2 for width in widths))
    rows.insert(1, ["-" * width for width in (first, *widths)])
    lines = [*textwrap.wrap(headline(comparison), TEXT_WIDTH), ""]
    for name, *others in rows:
        name = name if len(name) <= first else name[: first - 1] + "…"
        cells = [cell.rjust(width) for cell, width in zip(others, widths, strict=True)]
        lines.append("  ".join([name.ljust(first), *cells]))
    for text in (summary(comparison), *choices(comparison), *comparison.warnings):
        lines += ["", *textwrap.wrap(text, TEXT_WIDTH)]
    return "\n".join([*lines, "", verdicts_text(comparison.differences, TEXT_WIDTH)]) + "\n"


def headline(comparison: Comparison) -> str:
    """Return what extraction and each head cost and reach, then the best scheme or training from scratch.

    Without heads on pretrained features, it is what the best scheme reaches.
    """
    schemes = _by_scheme(comparison.table)
    best, scratch = schemes.iloc[0], schemes[schemes["family"] == "from-scratch"]
    is_head = schemes["family"].str.endswith("head") & ~schemes["weights"].str.startswith("random")
    if (heads := schemes[is_head]).empty:
        return f"{best['label']} reaches {_result_in_time(best)} on {best['data_set']}."
    head = heads.iloc[0]
    trained = heads[heads["family"] == "head"]  # without those whose sweep takes time as well
    once, each = head["extract_seconds"], (heads if trained.empty else trained)["train_seconds"].median()
    text = (
        f"Features were extracted once, in {format_duration(once)}. "
        f"Each head then trains in {format_duration(each)}; "
        f"{head['label']} reaches {format_value(head['accuracy'], '%')} on {head['data_set']}."
    )
    if best["family"] != "from-scratch" and best["label"] != head["label"]:
        text += f" {best['label']} reaches {_result_in_time(best)}."
    if scratch.empty:
        return text
    return f"{text} Training from scratch reaches {_result_in_time(scratch.iloc[0])}."


def summary(comparison: Comparison) -> str:
    """Return one sentence: the most accurate scheme, its lead, cost and ties."""
    schemes = _by_scheme(comparison.table)
    best = schemes.iloc[0]
    duration = format_duration(best["total_seconds"])
    images = f"the {best['n_test']:,} test images of {best['data_set']}"
    result = f"{best['label']} is the most accurate on {images}, with {format_share(best, 'accuracy')}"
    if best["seeds"] > 1:
        result += f" (mean of {best['seeds']} seeds)"
    if (ranking := ranking_of(comparison.differences)) is None:
        return f"{result} in {duration}; there is no other scheme to compare with."
    baseline, kind, is_cheapest = _baseline(schemes)
    lead = f"{_points(best['accuracy'] - baseline['accuracy'])} above {baseline['label']}"
    times = f"{duration} vs. {format_duration(baseline['total_seconds'])}"
    ratio = best["total_seconds"] / max(1e-3, baseline["total_seconds"])
    if is_cheapest:
        cost = f"and is also the cheapest {kind} ({duration})"
    elif 0.95 < ratio < 1.05:
        cost = f"the cheapest {kind}, in about the same time ({times})"
    else:
        cost = f"the cheapest {kind}, and takes {ratio:,.{0 if ratio >= 10 else 1}f} times as long ({times})"
    return f"{result}, {lead}, {cost}; {ties_sentence(ranking, best['label'])}."


def choices(comparison: Comparison) -> list[str]:
    """Return two sentences: the most accurate scheme within each of BUDGETS.

    The first counts everything from the prepared images on, the second one more training, with its sweep.
    """
    schemes = _by_scheme(comparison.table)
    again = schemes["total_seconds"] - schemes["extract_seconds"]
    return [
        f"Most accurate by total time: {_within(schemes, schemes['total_seconds'])}.",
        f"Most accurate by the time of one more training: {_within(schemes, again)}.",
    ]


def _within(schemes: pd.DataFrame, seconds: pd.Series) -> str:
    winners: dict[str, list[str]] = {}
    for budget, limit in BUDGETS.items():
        affordable = schemes[seconds <= limit].to_dict("records")
        names = (f"{row['label']} ({format_value(row['accuracy'], '%')})" for row in affordable)
        winners.setdefault(next(names, "nothing"), []).append(budget)
    return "; ".join(f"{name} within {join_names(budgets)}" for name, budgets in winners.items())


def _format_row(row: dict[Hashable, Any]) -> dict[str, str]:
    """Return the formatted values of a row by column; label is the scheme with its weights and input size."""
    return {
        **{name: str(row[name]) for name in (*LABELED, "image_size", "seed", "epochs")},
        "label": label_of(*(row[name] for name in LABELED)),
        "data_set": f"{row['data_set']} ({row['n_train']:,} / {row['n_test']:,})",
        **{name: score_row.format(row[name]) for name, score_row in SCORES.items()},
        "accuracy": format_share(row, "accuracy"),
        "log_loss": format_value(row["log_loss"], ""),
        **{name: format_duration(row[name]) for name in DURATIONS},
        "peak_memory_mb": f"{row['peak_memory_mb']:,.0f} MB",
        **{name: format_count(row[name]) for name in ("parameters", "trainable_parameters")},
    }


def _result_in_time(row: pd.Series) -> str:
    return f"{format_value(row['accuracy'], '%')} in {format_duration(row['total_seconds'])}"


def _by_scheme(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of each scheme, most accurate first; intervals span those of all seeds."""
    means = dict.fromkeys(("accuracy", *DURATIONS), "mean")
    ends = {"accuracy_low": "min", "accuracy_high": "max"}
    facts = {"data_set": "first", "n_test": "first", "seed": "size"}
    groups = rows.groupby([*LABELED], sort=False, as_index=False)
    schemes = groups.agg({**facts, **means, **ends}).rename(columns={"seed": "seeds"})
    names = [label_of(*values) for values in schemes[[*LABELED]].itertuples(index=False)]
    schemes = schemes.assign(label=names, family=schemes["scheme"].map(family_of))
    return schemes.sort_values("accuracy", ascending=False, kind="stable")


def _baseline(schemes: pd.DataFrame) -> tuple[pd.Series, str, bool]:
    """Return the scheme to compare the best with, "head" or "scheme", and whether the best is the cheapest.

    The baseline is the cheapest head, or the second best scheme if the best is that head. Heads on random
    features are controls and count only if there are no others. Without any head, the cheapest scheme counts.
    """
    heads = schemes[schemes["family"] == "head"]
    pretrained = heads[~heads["weights"].str.startswith("random")]
    heads = heads if pretrained.empty else pretrained
    kind, pool = ("scheme", schemes) if heads.empty else ("head", heads)
    cheapest = pool.sort_index().nsmallest(1, "total_seconds").iloc[0]  # in a tie, the first in the table
    if cheapest["label"] != schemes["label"].iloc[0]:
        return cheapest, kind, False
    return schemes.iloc[1], kind, True


def _points(difference: float) -> str:
    points = f"{100 * difference:.1f}"
    return f"{points} point{'s' * (points != '1.0')}"
