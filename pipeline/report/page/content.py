"""Render stored results as one self-contained HTML file; only its charts are made as markup here."""

import base64
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.datasets.store import ImageStore
from pipeline.formatting import describe_sizes, format_count, format_duration, format_value
from pipeline.report.efficiency import draw_efficiency, read_efficiency, summarize
from pipeline.report.page import charts, mistakes
from pipeline.report.page.templating import TEMPLATES, environment
from pipeline.report.plots import accuracy_against_cost
from pipeline.results.break_even import break_even_of, once_and_each
from pipeline.results.comparison import Comparison, choices, compare, headline, summary
from pipeline.results.table import SCORES
from pipeline.results.verdicts import method_note, ranking_of
from pipeline.runs.result import RunResult, data_of, family_of, label
from pipeline.storage.fingerprint import key_of


@dataclass(frozen=True, eq=False)
class PageSources:
    """The inputs of a page: runs in order, and related results.

    stores maps the key of a data set's fingerprint to its folder, if it is prepared; efficiency has the
    folders of label-efficiency reports to include; commands maps a run's folder name to the command that
    trains it; command recreates the report.
    """

    title: str
    runs: Sequence[RunResult]
    efficiency: Sequence[Path] = ()
    stores: Mapping[str, Path] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @functools.cached_property
    def comparison(self) -> Comparison:
        """The comparison of the runs."""
        return compare(self.runs)


Column = tuple[str, str, Callable[[Any], str], str]  # title, key in a row, format of its values, tooltip
OWN_COLUMNS = ("accuracy", "log_loss")  # scores that have their own entry
TRAINING = "without the sweep of a tuned head, which total time includes"
EXTRACTION = "time to cache the features; paid once, shared by all runs that read them"
COLUMNS: tuple[Column, ...] = (
    ("total time", "total_seconds", format_duration, ""),
    ("training", "train_seconds", format_duration, TRAINING),
    ("extraction", "extract_seconds", lambda value: format_duration(value) if value else "–", EXTRACTION),
    ("log loss", "log_loss", lambda value: format_value(value, ""), "nats; lower is better"),
)
DETAILS: tuple[Column, ...] = (
    *((row.title, name, row.format, "") for name, row in SCORES.items() if name not in OWN_COLUMNS),
    ("epochs", "epochs", "{:,}".format, ""),
    ("peak memory", "peak_memory_mb", "{:,.0f} MB".format, ""),
    ("parameters", "parameters", format_count, ""),
    ("trainable", "trainable_parameters", format_count, ""),
    ("image px", "image_size", "{:,}".format, "pixels per side of the prepared images"),
    ("input px", "input_size", "{:,}".format, "pixels per side that the network sees"),
)


def render_page(sources: PageSources) -> str:
    """Return the page of a comparison as HTML. The same stored results give the same text."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    template = environment().get_template("page.html.jinja")
    return template.render(**content(sources), script=Markup(script), script_digest=digest)


def content(sources: PageSources) -> dict[str, Any]:
    """Return the variables of the page's template."""
    comparison, table = sources.comparison, sources.comparison.table
    ranking, highest = ranking_of(comparison.differences), table["accuracy"].max()
    accuracies = dict(zip(sources.runs, table["accuracy"], strict=True))
    by_accuracy = sorted(sources.runs, key=lambda run: -accuracies[run])
    schemes: dict[str, list[RunResult]] = defaultdict(list)
    for run in sources.runs:
        schemes[label(run)].append(run)
    means = {name: sum(accuracies[run] for run in runs) / len(runs) for name, runs in schemes.items()}
    groups = {name: schemes[name] for name in sorted(schemes, key=lambda name: -means[name])}
    rows = table.assign(best=table["accuracy"] == highest)
    cost = (
        f"Test accuracy over total time of {len(table)} runs; the best is {label(by_accuracy[0])} "
        f"with {format_value(highest, '%')}. {comparison.caption}."
    )
    bases = ((run.recipe["weights"], run.recipe["fingerprint"].get("features", {})) for run in sources.runs)
    weights = {f"{base['backbone']} {name}": base["weights"] for name, base in bases if base.get("weights")}
    return {
        "sources": sources,
        "comparison": comparison,
        "headline": headline(comparison),
        "summary": summary(comparison),
        "choices": choices(comparison),
        "columns": COLUMNS,
        "details": DETAILS,
        "rows": rows.sort_values("accuracy", ascending=False, kind="stable").to_dict("records"),
        "several_seeds": table["seed"].nunique() > 1,
        "cost": charts.svg("accuracy-against-cost", cost, accuracy_against_cost, comparison),
        "break_even": _break_even(by_accuracy),
        "ranking": ranking,
        "verdicts_note": method_note(ranking) if ranking else "",
        "curves": _curves(groups),
        "classes": mistakes.class_accuracies(by_accuracy),
        "confusions": [mistakes.confusion(name, runs) for name, runs in groups.items()],
        "calibrations": [mistakes.calibration(number, *group) for number, group in enumerate(groups.items())],
        "examples": _examples(by_accuracy, sources.stores),
        "efficiency": [_efficiency(number, folder) for number, folder in enumerate(sources.efficiency)],
        "runs": [_run_facts(run, sources.commands) for run in sources.runs],
        "machines": _machines(sources.runs),
        "data": list(dict.fromkeys(data_of(run.recipe) for run in sources.runs)),
        "weights": weights,
    }


def _break_even(runs: Sequence[RunResult]) -> dict[str, Any] | None:
    """Return text and chart of what the cache costs and saves for the most accurate head trained from it.

    runs come most accurate first. Without a cache, the frozen network runs over the training images in every
    epoch. The estimate assumes the speed of the extraction, the fastest in this project, and leaves out the
    start of every process.
    """
    of_family: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        of_family[family_of(run.recipe["scheme"])].append(run)
    pretrained = (run for run in of_family["head"] if not run.recipe["weights"].startswith("random"))
    heads = ((run, costs) for run in pretrained if (costs := break_even_of(run)))
    if (most_accurate := next(heads, None)) is None:
        return None
    best, costs = most_accurate
    counts = range(1, charts.MAX_TRAININGS + 1)
    lines = {
        f"{label(best)}, cached features": [costs.extraction + count * costs.head for count in counts],
        "extracted again for each head": [count * (costs.extraction + costs.head) for count in counts],
        "frozen network run every epoch": [costs.in_the_loop(count) for count in counts],
    }
    for tuned in of_family["fine-tune"][:1]:
        once, each = once_and_each(tuned)
        lines[label(tuned)] = [once + count * each for count in counts]
    first = costs.epochs_until_cheaper
    pays_off = f"The cache pays off in epoch {first} of the first head. " if first <= costs.epochs else ""
    text = (
        f"Without process startup, extracting the features took {format_duration(costs.extraction)}, once. "
        f"{label(best)} then takes {format_duration(costs.head)}. If the frozen network ran in each of its "
        f"{costs.epochs} epochs, it would take {format_duration(costs.in_the_loop(1))} at the same speed. "
        f"{pays_off}Compared with extracting again for every head, it pays off from the second head."
    )
    return {"text": text, "chart": charts.svg("break-even", text, charts.break_even, lines)}


def _curves(groups: dict[str, list[RunResult]]) -> list[dict[str, Any]]:
    histories = {name: [run.history for run in runs] for name, runs in groups.items()}
    curves: list[dict[str, str]] = []
    for number, (name, tables) in enumerate(histories.items()):
        results = "; ".join(
            f"after {format_duration(row['seconds'])} and {row['epoch']:.0f} epochs val accuracy is "
            f"{format_value(row['val_accuracy'], '%')} and val loss {format_value(row['val_loss'], 'nats')}"
            for row in (table.iloc[-1] for table in tables if len(table))
        )
        curves.append({"name": name})
        for quantity in ("accuracy", "loss"):
            alt = f"{quantity.capitalize()} of {name} over training time: {results or 'fitted in one step'}."
            drawing = (charts.learning_curves, histories, name, quantity)
            curves[-1][quantity] = charts.svg(f"{quantity}-{number}", alt, *drawing)
    return curves


def _examples(runs: list[RunResult], stores: Mapping[str, Path]) -> dict[str, Any]:
    """Return images on which the runs disagree, or why no images can be shown."""
    fingerprints = (run.recipe["fingerprint"].get("dataset") for run in runs)
    keys = {key_of(fingerprint) for fingerprint in fingerprints if fingerprint}
    if len(keys) != 1 or (folder := stores.get(*keys)) is None:
        reason = "the prepared images are missing" if len(keys) == 1 else "the runs used different images"
        return {"reason": f"No examples for {runs[0].recipe['dataset_title']}: {reason}.", "groups": []}
    return {"reason": "", "groups": mistakes.examples(runs, ImageStore(folder))}


def _efficiency(number: int, folder: Path) -> dict[str, Any]:
    table, caption = read_efficiency(folder)
    ends = summarize(table).groupby("scheme", sort=False)
    text = "Accuracy by label budget: " + "; ".join(
        f"{scheme} from {format_value(rows['accuracy'].iloc[0], '%')} with {rows['n_train'].iloc[0]:,} "
        f"labels to {format_value(rows['accuracy'].iloc[-1], '%')} with {rows['n_train'].iloc[-1]:,}"
        for scheme, rows in ends
    )
    chart = charts.svg(f"labels-{number}", f"{text}.", draw_efficiency, table, caption)
    return {"text": f"{text}.", "caption": caption, "chart": chart}


def _run_facts(run: RunResult, commands: Mapping[str, str]) -> dict[str, Any]:
    """Return the inputs, settings and command of a run."""
    recipe = run.recipe
    facts = {
        **{name: recipe[name] for name in ("scheme", "weights", "seed", "precision")},
        "data": data_of(recipe),
        "sizes": describe_sizes(recipe),
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
    """Return each combination of machine and versions once, with the labels of its runs."""
    machines: dict[str, dict[str, Any]] = {}
    for run in runs:
        facts = {**run.recipe.get("machine", {}), **run.recipe.get("versions", {})}
        key = json.dumps(facts, sort_keys=True)
        texts = {name: item if isinstance(item, str) else json.dumps(item) for name, item in facts.items()}
        machines.setdefault(key, {"facts": texts, "runs": {}})["runs"][label(run)] = None
    return [{**machine, "runs": list(machine["runs"])} for machine in machines.values()]
