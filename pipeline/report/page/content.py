"""From stored results to what the page says: plain values and texts, no markup but the charts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.datasets.store import ImageStore
from pipeline.formatting import format_count, format_duration, format_value
from pipeline.report.atlas.pictures import draw_depth
from pipeline.report.atlas.report import Atlas
from pipeline.report.efficiency import draw_efficiency, summarise
from pipeline.report.page import charts, mistakes
from pipeline.report.plots import comparison_alt_text
from pipeline.report.table import COMPARISON_PLOTS
from pipeline.results.comparison import Comparison, headlines, summaries
from pipeline.results.scores import accuracy
from pipeline.results.table import SCORES
from pipeline.results.verdicts import note, rankings
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
    """A column of the first table: the value that cells sort by, how they show it, and what it is."""

    title: str
    value: str
    shown: Callable[[Any], str]
    help: str = ""


APART = ("accuracy", "log_loss")  # scores that have a place of their own
EXTRACTION = "of the cached features; paid once, shared by all that read them"
COLUMNS = (
    Column("total time", "total_seconds", format_duration),
    Column("training", "train_seconds", format_duration),
    Column("extraction", "extract_seconds", format_duration, EXTRACTION),
    Column("log loss", "log_loss", lambda value: format_value(value, ""), "nats; less is better"),
    *(Column(row.title, name, row.format) for name, row in SCORES.items() if name not in APART),
    Column("epochs", "epochs", "{:,}".format),
    Column("peak memory", "peak_memory_mb", "{:,.0f} MB".format),
    Column("parameters", "parameters", format_count),
    Column("trainable", "trainable_parameters", format_count),
)


def content(sources: Sources) -> dict[str, Any]:
    """Return everything that the template of the page shows, by name."""
    comparison, groups, by_data = sources.comparison, _by_label(sources.runs), _by_data(sources.runs)
    ranked = rankings(comparison.differences)
    cost = COMPARISON_PLOTS["accuracy_against_cost"]
    cost_words = comparison_alt_text(cost.name, comparison)
    return {
        "sources": sources,
        "comparison": comparison,
        "headlines": headlines(comparison),
        "answers": summaries(comparison),
        "columns": COLUMNS,
        "rows": _rows(comparison.table),
        "several_data": comparison.table["data_set"].nunique() > 1,
        "several_seeds": comparison.table["seed"].nunique() > 1,
        "cost": charts.svg("accuracy-against-cost", cost_words, cost.draw, comparison),
        "break_even": _break_even(sources.runs),
        "rankings": ranked,
        "verdicts_note": note(max(found.seeds for found in ranked)) if ranked else "",
        "curves": _curves(groups),
        "classes": [mistakes.classes(found) for found in by_data],
        "confusions": [mistakes.confusion(name, runs) for name, runs in groups.items()],
        "calibrations": [mistakes.calibration(place, *pair) for place, pair in enumerate(groups.items())],
        "examples": [_examples(found, sources.stores) for found in by_data],
        "atlases": [_atlas(place, atlas) for place, atlas in enumerate(sources.atlases)],
        "efficiency": [_efficiency(place, *pair) for place, pair in enumerate(sources.efficiency)],
        "recipes": [_recipe(run, sources.commands) for run in sources.runs],
        "machines": _machines(sources.runs),
        "data": list(dict.fromkeys(data_of(run.recipe) for run in sources.runs)),
        "weights": _weights(sources.runs),
    }


def _by_label(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Return the runs of each scheme, most accurate scheme first; the data set is named where it varies."""
    several = len({run.recipe["dataset_title"] for run in runs}) > 1
    found: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        found[f"{label(run)} · {run.recipe['dataset_title']}" if several else label(run)].append(run)
    return dict(sorted(found.items(), key=lambda pair: -_accuracy(pair[1])))


def _by_data(runs: Sequence[RunResult]) -> list[list[RunResult]]:
    """Return the runs of each data set, most accurate first."""
    found: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        found[run.recipe["dataset_title"]].append(run)
    return [sorted(group, key=lambda run: -_accuracy([run])) for group in found.values()]


def _accuracy(runs: Sequence[RunResult]) -> float:
    tests = [run.split("test") for run in runs]
    return sum(accuracy(test.probabilities, test.labels) for test in tests) / len(runs)


def _rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Return the rows of the first table, most accurate first; best is that of each data set."""
    highest = table.groupby("data_set")["accuracy"].transform("max")
    rows = table.assign(best=table["accuracy"] == highest)
    return rows.sort_values("accuracy", ascending=False, kind="stable").to_dict("records")


def _break_even(runs: Sequence[RunResult]) -> dict[str, Any] | None:
    """Return what the cache costs and saves, for the most accurate head that is trained from it.

    Without a cache the frozen network runs over all images at every epoch; it is taken to do so at the
    speed of the extraction, the fastest that this project has.
    """
    heads = [
        run
        for run in runs
        if family_of(run.recipe["scheme"]) == "head"
        and run.costs["extract_seconds"] > 0
        and run.recipe["epochs"] > 0
        and not run.recipe["weights"].startswith("random")
    ]
    if not heads:
        return None
    best = max(heads, key=lambda run: _accuracy([run]))
    once, each, epochs = best.costs["extract_seconds"], best.costs["train_seconds"], best.recipe["epochs"]
    prices = {  # of the first training, and of each
        f"{label(best)} from the cache": (once, each),
        "extracted anew for each head": (0, once + each),
        "frozen network at every epoch": (0, epochs * once + each),
    }
    tuned = [run for run in runs if family_of(run.recipe["scheme"]) == "fine-tune"]
    if tuned:
        chosen = max(tuned, key=lambda run: _accuracy([run]))
        prices[label(chosen)] = (0, chosen.costs["total_seconds"])
    lines = {
        name: [first + count * every for count in range(1, charts.HEADS + 1)]
        for name, (first, every) in prices.items()
    }
    paid = "So the cache has paid for itself with the first head, in its second epoch; against "
    words = (
        f"The cache cost {format_duration(once)}, once. {label(best)} then takes {format_duration(each)}; "
        f"with the frozen network in front of it at each of its {epochs} epochs it would take "
        f"{format_duration(epochs * once + each)} at the same speed. {paid if epochs > 1 else 'Against '}"
        "extracting anew for every head, it has with the second head."
    )
    return {"words": words, "chart": charts.svg("break-even", words, charts.break_even, lines)}


def _curves(groups: dict[str, list[RunResult]]) -> list[dict[str, Any]]:
    histories = {name: [run.history for run in runs] for name, runs in groups.items()}
    found = []
    for place, (name, tables) in enumerate(histories.items()):
        last = [table.iloc[-1] for table in tables if len(table)]
        said = "; ".join(
            f"after {format_duration(row['seconds'])} and {row['epoch']:.0f} epochs val accuracy is "
            f"{format_value(row['val_accuracy'], '%')} and val loss {format_value(row['val_loss'], 'nats')}"
            for row in last
        )
        drawn = {"name": name}
        for quantity in ("accuracy", "loss"):
            words = f"{quantity.capitalize()} of {name} over training time: {said or 'fitted in one step'}."
            drawing = (charts.curves, histories, name, quantity)
            drawn[quantity] = charts.svg(f"{quantity}-{place}", words, *drawing)
        found.append(drawn)
    return found


def _examples(runs: list[RunResult], stores: Mapping[str, Path]) -> dict[str, Any]:
    """Return images on which the runs of a data set disagree; a reason where its images are not at hand."""
    title = runs[0].recipe["dataset_title"]
    keys = {key_of(found) for run in runs if (found := run.recipe["fingerprint"].get("dataset"))}
    if len(keys) != 1 or (folder := stores.get(*keys)) is None:
        why = "its prepared images are not at hand" if len(keys) == 1 else "the runs had different images"
        return {"data_set": title, "why_none": f"No examples of {title}: {why}.", "groups": []}
    return {"data_set": title, "why_none": "", "groups": mistakes.examples(runs, ImageStore(folder))}


def _atlas(place: int, atlas: Atlas) -> dict[str, Any]:
    arguments = (atlas.table, atlas.freeze_through, atlas.caption)
    chart = charts.svg(f"atlas-{place}", f"Accuracy by depth. {atlas.words}", draw_depth, *arguments)
    return {"words": atlas.words, "command": atlas.command, "caption": atlas.caption, "chart": chart}


def _efficiency(place: int, table: pd.DataFrame, caption: str) -> dict[str, Any]:
    ends = summarise(table).groupby("scheme", sort=False)
    words = "Accuracy against training labels: " + "; ".join(
        f"{scheme} from {format_value(rows['accuracy'].iloc[0], '%')} with {rows['n_train'].iloc[0]:,} "
        f"labels to {format_value(rows['accuracy'].iloc[-1], '%')} with {rows['n_train'].iloc[-1]:,}"
        for scheme, rows in ends
    )
    chart = charts.svg(f"labels-{place}", f"{words}.", draw_efficiency, table, caption)
    return {"words": f"{words}.", "caption": caption, "chart": chart}


def _recipe(run: RunResult, commands: Mapping[str, str]) -> dict[str, Any]:
    """Return what a run was made from and with; commands has the one that makes it anew by folder's name."""
    recipe = run.recipe
    facts = {
        **{name: recipe[name] for name in ("scheme", "weights", "seed", "precision")},
        "data": data_of(recipe),
        "input size": f"{recipe.get('input_size', '–')} px",
        "trained": recipe.get("prefix", "from images" if recipe["weights"] == "none" else "from the cache"),
        "folder": run.folder.name,
    }
    settings = {name: json.dumps(value, ensure_ascii=False) for name, value in recipe["settings"].items()}
    return {
        "name": f"{label(run)} · seed {recipe['seed']}",
        "facts": facts,
        "settings": settings,
        "command": commands.get(run.folder.name, ""),
    }


def _machines(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Return the machines and versions that runs were made with, and which runs, each combination once."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        facts = {**run.recipe.get("machine", {}), **run.recipe.get("versions", {})}
        key = json.dumps(facts, sort_keys=True)
        texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in facts.items()}
        found.setdefault(key, {"facts": texts, "runs": {}})["runs"][label(run)] = None
    return [{**one, "runs": list(one["runs"])} for one in found.values()]


def _weights(runs: Sequence[RunResult]) -> dict[str, str]:
    """Return the identity of the weights by their name."""
    found = {}
    for run in runs:
        base = run.recipe["fingerprint"].get("features", {})
        if identity := base.get("weights", {}).get("identity"):
            found[f"{base['backbone']} {run.recipe['weights']}"] = identity
    return found
