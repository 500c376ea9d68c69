"""Many runs side by side: what each scheme reached on test, what it cost, what differs, all in words."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.errors import BadInput
from pipeline.formatting import markdown_table, shown, shown_count, shown_interval, shown_seconds
from pipeline.results.paired import paired_differences
from pipeline.results.scores import highest_row, lowest_row, score
from pipeline.results.table import SCORES
from pipeline.results.verdicts import Ranking, rankings, rivals_sentence, verdicts_markdown, verdicts_text
from pipeline.runs.result import RunResult, data_of, family_of, label_of

COLUMNS = (
    "scheme",
    "weights",
    "data_set",
    "n_train",
    "n_test",
    "seed",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "log_loss",
    "epochs",
    "train_seconds",
    "extract_seconds",
    "total_seconds",
    "peak_memory_mb",
    "parameters",
    "trainable_parameters",
)
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
    table = pd.DataFrame([_row(run) for run in runs], columns=list(columns()))
    return Comparison(table, paired_differences(runs), caption_of(runs), tuple(_warnings(runs)))


def comparison_markdown(comparison: Comparison, title: str) -> str:
    """Return the comparison as Markdown: title, table (the best in bold), answer, caption, differences."""
    table = comparison.table
    extras = [row for name, row in SCORES.items() if name not in COLUMNS]
    header = ["scheme", "weights", "data set (train / test)", "seed", "accuracy", "log loss"]
    header += [row.title for row in extras]
    header += ["epochs", "training", "extraction", "total time", "peak memory", "parameters", "trainable"]
    best = table.groupby("data_set")["accuracy"].transform("max")
    rows = []
    for line, highest in zip(table.to_dict("records"), best, strict=True):
        accuracy = shown_interval(line["accuracy"], line["accuracy_low"], line["accuracy_high"])
        rows.append(
            [
                line["scheme"],
                line["weights"],
                f"{line['data_set']} ({line['n_train']:,} / {line['n_test']:,})",
                str(line["seed"]),
                f"**{accuracy}**" if line["accuracy"] == highest else accuracy,
                shown(line["log_loss"], ""),
                *(row.shown(line[row.name]) for row in extras),
                str(line["epochs"]),
                *(shown_seconds(line[f"{name}_seconds"]) for name in ("train", "extract", "total")),
                _memory(line),
                *(shown_count(line[name]) for name in ("parameters", "trainable_parameters")),
            ]
        )
    note = "Accuracy on test with its 95 % Wilson interval."
    parts = [f"# {title}", markdown_table(header, rows), *answers(comparison), *comparison.warnings]
    parts += [f"{note} {comparison.caption}.", verdicts_markdown(comparison.differences)]
    return "\n\n".join(parts) + "\n"


def comparison_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal, at most 110 columns wide: table, answer, differences."""
    header = ["scheme", "seed", "test accuracy", "log loss", "training", "total time", "memory", "params"]
    rows = [
        [
            label_of(line["scheme"], line["weights"]),
            str(line["seed"]),
            shown_interval(line["accuracy"], line["accuracy_low"], line["accuracy_high"]),
            shown(line["log_loss"], ""),
            shown_seconds(line["train_seconds"]),
            shown_seconds(line["total_seconds"]),
            _memory(line),
            shown_count(line["parameters"]),
        ]
        for line in comparison.table.to_dict("records")
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    gaps = 2 * (len(widths) - 1)
    widths[0] = min(widths[0], TEXT_WIDTH - gaps - sum(widths[1:]))
    lines = [_aligned(cells, widths) for cells in (header, ["-" * width for width in widths], *rows)]
    said = [*answers(comparison), *comparison.warnings]
    answer = [line for text in said for line in ("", *textwrap.wrap(text, TEXT_WIDTH))]
    return "\n".join([*lines, *answer, "", verdicts_text(comparison.differences, TEXT_WIDTH)]) + "\n"


def answers(comparison: Comparison) -> list[str]:
    """Return one plain sentence for each data set: the most accurate scheme, its lead, price and rivals."""
    ranked = {ranking.data_set: ranking for ranking in rankings(comparison.differences)}
    by_data = comparison.table.groupby("data_set", sort=False)
    return [_answer(rows, ranked.get(str(title))) for title, rows in by_data]


def headlines(comparison: Comparison) -> list[str]:
    """Return for each data set what its most accurate scheme buys over the cheapest head, and for what."""
    return [_headline(rows) for _, rows in comparison.table.groupby("data_set", sort=False)]


def caption_of(runs: Sequence[RunResult]) -> str:
    """Return the line under a comparison: data sets with sizes, weights, precisions, seeds, each once."""
    recipes = [run.recipe for run in runs]
    data = "; ".join(_once(data_of(recipe) for recipe in recipes))
    weights = ", ".join(_once(recipe["weights"] for recipe in recipes))
    precisions = ", ".join(_once(recipe["precision"] for recipe in recipes))
    seeds = _once(str(recipe["seed"]) for recipe in recipes)
    return f"{data} · weights {weights} · {precisions} · seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def _warnings(runs: Sequence[RunResult]) -> Iterator[str]:
    for run in runs:
        for text in run.recipe.get("warnings", ()):
            label = label_of(run.recipe["scheme"], run.recipe["weights"])
            yield f"Warning for {label}, seed {run.recipe['seed']}: {text}."


def _row(run: RunResult) -> dict[str, Any]:
    scores = score(run.split("test"))
    known = {**run.recipe, **run.costs, **scores, "data_set": run.recipe["dataset_title"]}
    return {name: known[name] for name in columns()}


def _memory(line: dict[Hashable, Any]) -> str:
    return f"{line['peak_memory_mb']:,.0f} MB"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0] if len(cells[0]) <= widths[0] else cells[0][: widths[0] - 1] + "…"
    others = (f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([f"{first:<{widths[0]}}", *others])


def _answer(rows: pd.DataFrame, ranking: Ranking | None) -> str:
    schemes = _by_scheme(rows)
    best = highest_row(schemes, "accuracy")
    others = schemes.drop(index=best.name)
    accuracy = shown_interval(best["accuracy"], best["accuracy_low"], best["accuracy_high"])
    images = f"the {best['n_test']:,} test images of {best['data_set']}"
    reached = f"{best['label']} is most accurate on {images}, with {accuracy}"
    if best["seeds"] > 1:
        reached += f" (mean of {best['seeds']} seeds)"
    if others.empty or ranking is None:
        return (
            f"{reached} in {shown_seconds(best['total_seconds'])}; there is no other scheme to compare with."
        )
    return f"{reached}, {_price(best, schemes, others)}; {rivals_sentence(ranking, best['label'])}."


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


def _headline(rows: pd.DataFrame) -> str:
    schemes = _by_scheme(rows)
    best = highest_row(schemes, "accuracy")
    reached = f"{shown(best['accuracy'], '%')} on {best['data_set']}"
    cheapest, kind = _cheapest(schemes)
    if len(schemes) == 1:
        return f"{best['label']} reaches {reached} in {shown_seconds(best['total_seconds'])}."
    if cheapest["label"] == best["label"]:
        lead = best["accuracy"] - schemes.drop(index=best.name)["accuracy"].max()
        return f"{best['label']}, the cheapest {kind}, is also best: {reached}, {_points(lead)} ahead."
    lead = _points(best["accuracy"] - cheapest["accuracy"])
    price = f"in {shown_seconds(best['total_seconds'])} instead of {shown_seconds(cheapest['total_seconds'])}"
    if multiple := _multiple(best, cheapest):
        price = f"for {multiple} times the time"
    return f"{best['label']} buys +{lead} over {cheapest['label']}, {price}: {reached}."


def _price(best: pd.Series, schemes: pd.DataFrame, others: pd.DataFrame) -> str:
    """Return by how many points best leads the cheapest head, and at what multiple of its total time."""
    cheapest, kind = _cheapest(schemes)
    times = f"{shown_seconds(best['total_seconds'])} against {shown_seconds(cheapest['total_seconds'])}"
    if cheapest["label"] == best["label"]:
        next_best = highest_row(others, "accuracy")
        lead = _points(best["accuracy"] - next_best["accuracy"])
        took = shown_seconds(best["total_seconds"])
        return f"{lead} above {next_best['label']}, and is itself the cheapest {kind} ({took})"
    lead = (
        f"{_points(best['accuracy'] - cheapest['accuracy'])} above {cheapest['label']}, the cheapest {kind}"
    )
    multiple = _multiple(best, cheapest)
    return f"{lead}, at {multiple} times its total time ({times})" if multiple else f"{lead} ({times})"


def _cheapest(schemes: pd.DataFrame) -> tuple[pd.Series, str]:
    """Return the head that takes least time and "head"; where there is no head, the scheme and "scheme".

    A head on random features is a control, not a choice: it is the cheapest only where no other is there.
    """
    heads = schemes[schemes["family"] == "head"]
    chosen = heads[~heads["weights"].str.startswith("random")]
    heads = heads if chosen.empty else chosen
    kind, pool = ("scheme", schemes) if heads.empty else ("head", heads)
    return lowest_row(pool, "total_seconds"), kind


def _multiple(dear: pd.Series, cheap: pd.Series) -> str:
    """Return how many times the total time of one the other takes; "" where one took none."""
    if cheap["total_seconds"] <= 0:
        return ""
    multiple = dear["total_seconds"] / cheap["total_seconds"]
    return f"{multiple:,.{0 if multiple >= 10 else 1}f}"


def _points(difference: float) -> str:
    points = f"{100 * difference:.1f}"
    return f"{points} point{'s' * (points != '1.0')}"


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
