"""From stored results to what the page says: plain values and texts, no markup but the charts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.datasets.store import ImageStore
from pipeline.formatting import shown, shown_count, shown_interval, shown_seconds
from pipeline.report.atlas.pictures import draw_depth
from pipeline.report.atlas.report import Atlas
from pipeline.report.efficiency import draw_efficiency, summarise
from pipeline.report.page import charts, mistakes, provenance
from pipeline.report.page.examples import examples
from pipeline.report.plots import comparison_alt_text
from pipeline.report.table import COMPARISON_PLOTS
from pipeline.results.comparison import Comparison, answers, headlines
from pipeline.results.scores import accuracy
from pipeline.results.table import SCORES
from pipeline.results.verdicts import Ranking, note, rankings, shown_p, signed, span, verdict_sentence
from pipeline.runs.result import RunResult, data_of, family_of, label
from pipeline.storage.fingerprint import key_of


@dataclass(frozen=True, eq=False)
class Sources:
    """What a page is made of: runs in order, their comparison, and what lies beside it.

    stores has the prepared data sets by their fingerprint's key, where they are at hand; efficiency has
    (table, caption) of curves of the same data; commands make each run anew, by the name of its folder.
    """

    title: str
    runs: Sequence[RunResult]
    comparison: Comparison
    atlases: Sequence[Atlas] = ()
    efficiency: Sequence[tuple[pd.DataFrame, str]] = ()
    stores: Mapping[str, Path] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the first table: how its cells are sorted and shown; help says what it is."""

    title: str
    value: str
    shown: Any
    help: str = ""


COLUMNS = (
    Column("total time", "total_seconds", lambda row: shown_seconds(row["total_seconds"])),
    Column("training", "train_seconds", lambda row: shown_seconds(row["train_seconds"])),
    Column(
        "extraction",
        "extract_seconds",
        lambda row: shown_seconds(row["extract_seconds"]),
        "of the cached features; paid once, shared by all that read them",
    ),
    Column("log loss", "log_loss", lambda row: shown(row["log_loss"], ""), "nats; less is better"),
    *(
        Column(row.title, row.name, lambda line, row=row: row.shown(line[row.name]))
        for row in SCORES.values()
        if row.name not in ("accuracy", "log_loss")
    ),
    Column("epochs", "epochs", lambda row: f"{row['epochs']:,}"),
    Column("peak memory", "peak_memory_mb", lambda row: f"{row['peak_memory_mb']:,.0f} MB"),
    Column("parameters", "parameters", lambda row: shown_count(row["parameters"])),
    Column("trainable", "trainable_parameters", lambda row: shown_count(row["trainable_parameters"])),
)


def content(sources: Sources) -> dict[str, Any]:
    """Return everything that the template of the page shows, by name."""
    comparison, groups = sources.comparison, _by_label(sources.runs)
    return {
        "title": sources.title,
        "headlines": headlines(comparison),
        "answers": answers(comparison),
        "warnings": comparison.warnings,
        "caption": comparison.caption,
        "columns": COLUMNS,
        "rows": _rows(comparison.table),
        "several_data": comparison.table["data_set"].nunique() > 1,
        "several_seeds": comparison.table["seed"].nunique() > 1,
        "cost": _of_plot("accuracy_against_cost", comparison),
        "break_even": _break_even(sources.runs),
        "rankings": [_ranking(found) for found in rankings(comparison.differences)],
        "verdicts_note": _verdicts_note(comparison),
        "curves": _curves(groups),
        "classes": [mistakes.classes(found) for found in _by_data(sources.runs)],
        "confusions": [mistakes.confusion(name, runs) for name, runs in groups.items()],
        "calibrations": [mistakes.calibration(place, *pair) for place, pair in enumerate(groups.items())],
        "examples": [_examples(found, sources.stores) for found in _by_data(sources.runs)],
        "atlases": [_atlas(place, atlas) for place, atlas in enumerate(sources.atlases)],
        "efficiency": [_efficiency(place, *pair) for place, pair in enumerate(sources.efficiency)],
        "recipes": [provenance.recipe_card(run, sources.commands) for run in sources.runs],
        "machines": provenance.machines(sources.runs),
        "data": list(dict.fromkeys(data_of(run.recipe) for run in sources.runs)),
        "weights": provenance.weights(sources.runs),
        "command": sources.command,
    }


def _by_label(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Return the runs of each scheme, most accurate scheme first; the data set is named where it varies."""
    several = len({run.recipe["dataset_title"] for run in runs}) > 1
    found: dict[str, list[RunResult]] = {}
    for run in runs:
        name = f"{label(run)} · {run.recipe['dataset_title']}" if several else label(run)
        found.setdefault(name, []).append(run)
    return dict(sorted(found.items(), key=lambda pair: -_accuracy(pair[1])))


def _by_data(runs: Sequence[RunResult]) -> list[list[RunResult]]:
    """Return the runs of each data set, most accurate first."""
    found: dict[str, list[RunResult]] = {}
    for run in runs:
        found.setdefault(run.recipe["dataset_title"], []).append(run)
    return [sorted(group, key=lambda run: -_accuracy([run])) for group in found.values()]


def _accuracy(runs: Sequence[RunResult]) -> float:
    tests = [run.split("test") for run in runs]
    return sum(accuracy(test.probabilities, test.labels) for test in tests) / len(runs)


def _rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    best = table.groupby("data_set")["accuracy"].transform("max")
    rows = []
    for line, highest in zip(table.to_dict("records"), best, strict=True):
        reached = shown_interval(line["accuracy"], line["accuracy_low"], line["accuracy_high"])
        cells = [(line[column.value], column.shown(line)) for column in COLUMNS]
        best_here = line["accuracy"] == highest
        family = family_of(line["scheme"])
        rows.append({**line, "shown": reached, "best": best_here, "family": family, "cells": cells})
    return sorted(rows, key=lambda row: -row["accuracy"])


def _of_plot(name: str, comparison: Comparison) -> str:
    words = comparison_alt_text(name, comparison)
    return charts.svg(name.replace("_", "-"), words, COMPARISON_PLOTS[name].draw, comparison)


def _break_even(runs: Sequence[RunResult]) -> dict[str, Any] | None:
    """Return what the cache costs and saves, for the most accurate head that is trained from it.

    Without a cache the frozen network runs over all images at every epoch; it is taken to do so at the
    speed of the extraction, the fastest that this project has.
    """
    heads = [run for run in runs if family_of(run.recipe["scheme"]) == "head"]
    heads = [run for run in heads if run.costs["extract_seconds"] > 0 and run.recipe["epochs"] > 0]
    heads = [run for run in heads if not run.recipe["weights"].startswith("random")]
    if not heads:
        return None
    best = max(heads, key=lambda run: _accuracy([run]))
    once, each, epochs = best.costs["extract_seconds"], best.costs["train_seconds"], best.recipe["epochs"]
    counts = range(1, charts.HEADS + 1)
    lines = {
        f"{label(best)} from the cache": [once + count * each for count in counts],
        "extracted anew for each head": [count * (once + each) for count in counts],
        "frozen network at every epoch": [count * (epochs * once + each) for count in counts],
    }
    tuned = [run for run in runs if family_of(run.recipe["scheme"]) == "fine-tune"]
    if tuned:
        chosen = max(tuned, key=lambda run: _accuracy([run]))
        total = chosen.costs["total_seconds"]
        lines[f"{label(chosen)}"] = [count * total for count in counts]
    words = (
        f"The cache cost {shown_seconds(once)}, once. {label(best)} then takes {shown_seconds(each)}; with "
        f"the frozen network in front of it at each of its {epochs} epochs it would take "
        f"{shown_seconds(epochs * once + each)} at the same speed. "
    )
    if epochs > 1:
        words += "So the cache has paid for itself with the first head, in its second epoch; against "
    else:
        words += "Against "
    words += "extracting anew for every head, it has with the second head."
    return {"words": words, "chart": charts.svg("break-even", words, charts.break_even, lines)}


def _ranking(found: Ranking) -> dict[str, Any]:
    names = list(found.accuracies)
    rows = []
    for place, name in enumerate(names):
        cells = []
        for other in names[1:]:
            verdict = found.verdicts.get((name, other))
            cells.append(
                verdict
                and {
                    "points": signed(verdict.difference),
                    "interval": span(verdict.low, verdict.high),
                    "p": shown_p(verdict.p),
                    "real": verdict.real,
                    "share": min(1.0, abs(verdict.difference) / 0.3),
                    "other": other,
                }
            )
        rows.append(
            {"place": place + 1, "name": name, "accuracy": shown(found.accuracies[name], "%"), "cells": cells}
        )
    return {"sentence": verdict_sentence(found), "data_set": found.data_set, "names": names, "rows": rows}


def _verdicts_note(comparison: Comparison) -> str:
    found = rankings(comparison.differences)
    return note(max(ranking.seeds for ranking in found)) if found else ""


def _curves(groups: dict[str, list[RunResult]]) -> list[dict[str, Any]]:
    histories = {name: [run.history for run in runs] for name, runs in groups.items()}
    found = []
    for place, (name, tables) in enumerate(histories.items()):
        last = [table.iloc[-1] for table in tables if len(table)]
        said = "; ".join(
            f"after {shown_seconds(row['seconds'])} and {row['epoch']:.0f} epochs val accuracy is "
            f"{shown(row['val_accuracy'], '%')} and val loss {shown(row['val_loss'], 'nats')}"
            for row in last
        )
        drawn = {
            quantity: charts.svg(
                f"{quantity}-{place}",
                f"{quantity.capitalize()} of {name} over training time: {said or 'fitted in one step'}.",
                charts.curves,
                histories,
                name,
                quantity,
            )
            for quantity in ("accuracy", "loss")
        }
        found.append({"name": name, **drawn})
    return found


def _examples(runs: list[RunResult], stores: Mapping[str, Path]) -> dict[str, Any]:
    """Return images on which the runs of a data set disagree; a reason where its images are not at hand."""
    title = runs[0].recipe["dataset_title"]
    keys = {key_of(found) for run in runs if (found := run.recipe["fingerprint"].get("dataset"))}
    if len(keys) != 1 or (folder := stores.get(*keys)) is None:
        why = "its prepared images are not at hand" if len(keys) == 1 else "the runs had different images"
        return {"data_set": title, "why_none": f"No examples of {title}: {why}.", "groups": []}
    return {"data_set": title, "why_none": "", "groups": examples(runs, ImageStore(folder))}


def _atlas(place: int, atlas: Atlas) -> dict[str, Any]:
    arguments = (atlas.table, atlas.freeze_through, atlas.caption)
    chart = charts.svg(f"atlas-{place}", f"Accuracy by depth. {atlas.words}", draw_depth, *arguments)
    return {"words": atlas.words, "command": atlas.command, "caption": atlas.caption, "chart": chart}


def _efficiency(place: int, table: pd.DataFrame, caption: str) -> dict[str, Any]:
    ends = summarise(table).groupby("scheme", sort=False)
    words = "Accuracy against training labels: " + "; ".join(
        f"{scheme} from {shown(rows['accuracy'].iloc[0], '%')} with {rows['n_train'].iloc[0]:,} labels to "
        f"{shown(rows['accuracy'].iloc[-1], '%')} with {rows['n_train'].iloc[-1]:,}"
        for scheme, rows in ends
    )
    chart = charts.svg(f"labels-{place}", f"{words}.", draw_efficiency, table, caption)
    return {"words": f"{words}.", "caption": caption, "chart": chart}
