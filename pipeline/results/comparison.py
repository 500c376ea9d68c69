"""Many runs side by side: what each scheme reached on test, what it cost, what differs, all in words."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.errors import BadInput
from pipeline.formatting import format_count, format_duration, format_share, format_value, markdown_table
from pipeline.results.paired import paired_differences
from pipeline.results.scores import highest_row, lowest_row, score
from pipeline.results.table import SCORES
from pipeline.results.verdicts import Ranking, rankings, rivals_sentence, verdicts_markdown, verdicts_text
from pipeline.runs.result import RunResult, data_of, family_of, label, label_of

COLUMNS = (
    "scheme", "weights", "data_set", "n_train", "n_test", "seed",
    "accuracy", "accuracy_low", "accuracy_high", "log_loss", "epochs",
    "train_seconds", "extract_seconds", "total_seconds", "peak_memory_mb",
    "parameters", "trainable_parameters",
)  # fmt: skip
TEXT_WIDTH = 110


@dataclass(frozen=True, eq=False)
class Comparison:
    """What tables, plots and words of a comparison are made of.

    table has one row a run with columns(), differences one row a pair of schemes with DIFFERENCE_COLUMNS;
    caption is the line under all of it. warnings say in words what went wrong in a training.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    caption: str
    warnings: tuple[str, ...] = ()


def columns() -> tuple[str, ...]:
    """Return COLUMNS and, after them, every further row of SCORES."""
    return COLUMNS + tuple(name for name in SCORES if name not in COLUMNS)


def compare(runs: Sequence[RunResult]) -> Comparison:
    """Return the comparison of runs: a row a run (a scheme and seed), in the order given, and what differs.

    Scores are those on test, fractions in 0..1 (log_loss in nats); times are in seconds, memory in MB.
    Raises BadInput when there are no runs, or runs of one data set were tested on other images.
    """
    if not runs:
        raise BadInput("expected at least one run to compare, found none; train a scheme first")
    known = [
        {**run.recipe, **run.costs, **score(run.split("test")), "data_set": run.recipe["dataset_title"]}
        for run in runs
    ]
    warnings = tuple(
        f"Warning for {label(run)}, seed {run.recipe['seed']}: {text}."
        for run in runs
        for text in run.recipe.get("warnings", ())
    )
    table = pd.DataFrame(known, columns=list(columns()))
    return Comparison(table, paired_differences(runs), caption_of(runs), warnings)


def comparison_markdown(comparison: Comparison, title: str) -> str:
    """Return the comparison as Markdown: title, table (the best in bold), answer, caption, differences."""
    titles = {
        **{"scheme": "scheme", "weights": "weights", "data_set": "data set (train / test)", "seed": "seed"},
        **{name: row.title for name, row in SCORES.items()},
        **{"epochs": "epochs", "train_seconds": "training", "extract_seconds": "extraction"},
        **{"total_seconds": "total time", "peak_memory_mb": "peak memory", "parameters": "parameters"},
        "trainable_parameters": "trainable",
    }
    best = comparison.table.groupby("data_set")["accuracy"].transform("max")
    rows = []
    for line, highest in zip(comparison.table.to_dict("records"), best, strict=True):
        cells = _cells(line)
        if line["accuracy"] == highest:
            cells["accuracy"] = f"**{cells['accuracy']}**"
        rows.append([cells[name] for name in titles])
    table = markdown_table(list(titles.values()), rows)
    note = f"Accuracy on test with its 95 % Wilson interval. {comparison.caption}."
    verdicts = verdicts_markdown(comparison.differences)
    parts = [f"# {title}", table, *summaries(comparison), *comparison.warnings, note, verdicts]
    return "\n\n".join(parts) + "\n"


def comparison_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal, at most 110 columns wide: table, answer, differences."""
    titles = {
        **{"label": "scheme", "seed": "seed", "accuracy": "test accuracy", "log_loss": "log loss"},
        **{"train_seconds": "training", "total_seconds": "total time"},
        **{"peak_memory_mb": "memory", "parameters": "params"},
    }
    rows = [list(titles.values())]
    rows += [[cells[name] for name in titles] for cells in map(_cells, comparison.table.to_dict("records"))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gaps = 2 * (len(widths) - 1)
    widths[0] = min(widths[0], TEXT_WIDTH - gaps - sum(widths[1:]))
    rows.insert(1, ["-" * width for width in widths])
    lines = [_aligned(cells, widths) for cells in rows]
    said = [*summaries(comparison), *comparison.warnings]
    answer = [line for text in said for line in ("", *textwrap.wrap(text, TEXT_WIDTH))]
    return "\n".join([*lines, *answer, "", verdicts_text(comparison.differences, TEXT_WIDTH)]) + "\n"


def summaries(comparison: Comparison) -> list[str]:
    """Return one plain sentence for each data set: the most accurate scheme, its lead, price and rivals."""
    ranked = {ranking.data_set: ranking for ranking in rankings(comparison.differences)}
    tables = comparison.table.groupby("data_set", sort=False)
    return [_answer(rows, ranked.get(str(title))) for title, rows in tables]


def headlines(comparison: Comparison) -> list[str]:
    """Return for each data set what its most accurate scheme buys over the cheapest head, and for what."""
    return [_headline(rows) for _, rows in comparison.table.groupby("data_set", sort=False)]


def caption_of(runs: Sequence[RunResult]) -> str:
    """Return the line under a comparison: data sets with sizes, weights, precisions, seeds, each once."""
    recipes = [run.recipe for run in runs]
    data = "; ".join(dict.fromkeys(map(data_of, recipes)))
    weights, precisions, seeds = (
        dict.fromkeys(str(recipe[name]) for recipe in recipes) for name in ("weights", "precision", "seed")
    )
    words = f"{data} · weights {', '.join(weights)} · {', '.join(precisions)}"
    return f"{words} · seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def _cells(line: dict[Hashable, Any]) -> dict[str, str]:
    """Return the values of a row as they are shown, by column; label is the scheme with its weights."""
    return {
        **{name: str(line[name]) for name in ("scheme", "weights", "seed", "epochs")},
        "label": label_of(line["scheme"], line["weights"]),
        "data_set": f"{line['data_set']} ({line['n_train']:,} / {line['n_test']:,})",
        **{name: row.format(line[name]) for name, row in SCORES.items()},
        "accuracy": format_share(line, "accuracy"),
        "log_loss": format_value(line["log_loss"], ""),
        **{
            name: format_duration(line[name])
            for name in ("train_seconds", "extract_seconds", "total_seconds")
        },
        "peak_memory_mb": f"{line['peak_memory_mb']:,.0f} MB",
        **{name: format_count(line[name]) for name in ("parameters", "trainable_parameters")},
    }


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0] if len(cells[0]) <= widths[0] else cells[0][: widths[0] - 1] + "…"
    others = (f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([f"{first:<{widths[0]}}", *others])


def _answer(rows: pd.DataFrame, ranking: Ranking | None) -> str:
    schemes = _by_scheme(rows)
    best = highest_row(schemes, "accuracy")
    took = format_duration(best["total_seconds"])
    images = f"the {best['n_test']:,} test images of {best['data_set']}"
    reached = f"{best['label']} is most accurate on {images}, with {format_share(best, 'accuracy')}"
    if best["seeds"] > 1:
        reached += f" (mean of {best['seeds']} seeds)"
    if len(schemes) == 1 or ranking is None:
        return f"{reached} in {took}; there is no other scheme to compare with."
    other, kind, is_cheapest = _compared_with(best, schemes)
    lead = f"{_points(best['accuracy'] - other['accuracy'])} above {other['label']}"
    times = f"{took} against {format_duration(other['total_seconds'])}"
    if is_cheapest:
        price = f"and is itself the cheapest {kind} ({took})"
    elif multiple := _multiple(best, other):
        price = f"the cheapest {kind}, at {multiple} times its total time ({times})"
    else:
        price = f"the cheapest {kind} ({times})"
    return f"{reached}, {lead}, {price}; {rivals_sentence(ranking, best['label'])}."


def _headline(rows: pd.DataFrame) -> str:
    schemes = _by_scheme(rows)
    best = highest_row(schemes, "accuracy")
    took = format_duration(best["total_seconds"])
    reached = f"{format_value(best['accuracy'], '%')} on {best['data_set']}"
    if len(schemes) == 1:
        return f"{best['label']} reaches {reached} in {took}."
    other, kind, is_cheapest = _compared_with(best, schemes)
    lead = _points(best["accuracy"] - other["accuracy"])
    if is_cheapest:
        return f"{best['label']}, the cheapest {kind}, is also best: {reached}, {lead} ahead."
    multiple = _multiple(best, other)
    against = f"in {took} instead of {format_duration(other['total_seconds'])}"
    price = f"for {multiple} times the time" if multiple else against
    return f"{best['label']} buys +{lead} over {other['label']}, {price}: {reached}."


def _by_scheme(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row a scheme: the mean over its seeds, and an interval that spans those of all seeds."""
    schemes = rows.groupby(["scheme", "weights"], sort=False, as_index=False).agg(
        data_set=("data_set", "first"),
        n_test=("n_test", "first"),
        accuracy=("accuracy", "mean"),
        accuracy_low=("accuracy_low", "min"),
        accuracy_high=("accuracy_high", "max"),
        total_seconds=("total_seconds", "mean"),
        seeds=("seed", "size"),
    )
    names = [label_of(*pair) for pair in zip(schemes["scheme"], schemes["weights"], strict=True)]
    return schemes.assign(label=names, family=schemes["scheme"].map(family_of))


def _compared_with(best: pd.Series, schemes: pd.DataFrame) -> tuple[pd.Series, str, bool]:
    """Return the cheapest head, "head" and False; the second best scheme and True where best is that head.

    A head on random features is a control, not a choice: it is the cheapest only where no other is there.
    Where there is no head at all, the cheapest scheme takes its place, with "scheme".
    """
    heads = schemes[schemes["family"] == "head"]
    chosen = heads[~heads["weights"].str.startswith("random")]
    heads = heads if chosen.empty else chosen
    kind, pool = ("scheme", schemes) if heads.empty else ("head", heads)
    cheapest = lowest_row(pool, "total_seconds")
    if cheapest["label"] != best["label"]:
        return cheapest, kind, False
    return highest_row(schemes.drop(index=best.name), "accuracy"), kind, True


def _multiple(dear: pd.Series, cheap: pd.Series) -> str:
    """Return how many times the total time of one the other takes; "" where one took none."""
    if cheap["total_seconds"] <= 0:
        return ""
    multiple = dear["total_seconds"] / cheap["total_seconds"]
    return f"{multiple:,.{0 if multiple >= 10 else 1}f}"


def _points(difference: float) -> str:
    points = f"{100 * difference:.1f}"
    return f"{points} point{'s' * (points != '1.0')}"
