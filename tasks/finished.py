"""Finished runs from the command line: list them, print one, compare any, classify with one, export one."""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import io
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.children import run_in_child
from pipeline.errors import BadInput, DamagedFile
from pipeline.fingerprint import key_of
from pipeline.page.render import PAGE
from pipeline.presets import PRESETS
from pipeline.publishing import MANIFEST, publish_manifest, read_manifest
from pipeline.results.comparison import shown_seconds
from pipeline.results.run import RunResult, data_of, read_run
from pipeline.results.scores import score
from pipeline.training.named import NAME
from pipeline.use.export import check_target, export
from pipeline.use.predict import SHOWN, find_pictures, predict
from pipeline.use.whole import needs_weights
from tasks.comparison import write_comparison
from tasks.configuration import data_folder
from tasks.progress import ShownProgress
from tasks.reproducing import dataset_folders, dataset_text
from tasks.wording import aligned

COLUMNS = ("run", "scheme", "weights", "data_set", "seed", "accuracy", "low", "high", "log_loss", "seconds")
SORTS = {
    "accuracy": True,
    "log_loss": False,
    "seconds": False,
    "run": False,
}  # whether the highest comes first


def find_run(text: str) -> Path:
    """Return the folder of the finished run that text names: a path, a name, or a part of one name alone."""
    place = Path(text)
    if (place / MANIFEST).is_file():
        return place.resolve()
    known = {path.parent.name: path.parent for path in sorted(data_folder().glob(f"runs/*/{MANIFEST}"))}
    found = [name for name in known if text == name] or [name for name in known if text in name]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise BadInput(f"run {text!r}: expected one run, found {len(found)}: {', '.join(found[:5])}")
    some = ", ".join(list(known)[:5]) or "none yet"
    raise BadInput(f"run {text!r}: expected a folder of a finished run, or a part of its name; known: {some}")


def run_rows(pattern: str, *, sort: str, only: Sequence[str] = ()) -> tuple[list[dict], list[str]]:
    """Return what is known of the runs whose names hold a pattern, and in words which could not be read.

    only has filters such as scheme=head:* or accuracy>0.6; sort is a key of SORTS.
    """
    if sort not in SORTS:
        raise BadInput(f"--sort: expected one of {', '.join(SORTS)}, received {sort!r}")
    tests, rows, unread = [_filter(text) for text in only], [], []
    for path in sorted(data_folder().glob(f"runs/*/{MANIFEST}")):
        if pattern not in path.parent.name:
            continue
        try:
            row = _row(read_run(path.parent))
        except DamagedFile as error:
            unread.append(str(error))
            continue
        if all(test(row) for test in tests):
            rows.append(row)
    rows.sort(key=lambda row: row[sort], reverse=SORTS[sort])
    return rows, unread


def runs_lines(rows: list[dict]) -> list[str]:
    """Return runs as a table for a terminal."""
    if not rows:
        return ["no finished runs; `headstart run` makes some"]
    header = ["test accuracy", "log loss", "total time", "seed", "run"]
    cells = [
        [
            f"{100 * row['accuracy']:.1f} % ({100 * row['low']:.1f}–{100 * row['high']:.1f})",
            f"{row['log_loss']:.3f}",
            shown_seconds(row["seconds"]),
            str(row["seed"]),
            row["run"],
        ]
        for row in rows
    ]
    return aligned([header, *cells])


def compare_lines(texts: Sequence[str], name: str) -> list[str]:
    """Compare runs with paired statistics in data/reports/<name>/; return the table and where it is."""
    if not re.fullmatch(NAME, name) or name in PRESETS:
        raise BadInput(
            f"--name {name!r}: expected up to 100 letters, digits and . _ + -, and no preset's name"
        )
    folders = list(dict.fromkeys(find_run(text) for text in texts))
    if len(folders) < 2:
        raise BadInput(f"expected two runs or more to compare, received {len(folders)}")
    runs = told_apart([read_run(folder) for folder in folders])
    target = data_folder() / "reports" / name
    title = f"Comparison of {len(runs)} runs"
    names = [folder.name for folder in folders]
    command = shlex.join(["headstart", "compare", *names, "--name", name])
    text, files = write_comparison(target, runs, title, command=command)
    publish_manifest(target, {"compared": names}, files)
    return [*text.splitlines(), f"The page: {target / PAGE}"]


def told_apart(runs: Sequence[RunResult]) -> list[RunResult]:
    """Return runs; where several have one scheme, its name says in what they differ: settings, images, …"""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.recipe["scheme"], run.recipe["weights"]), []).append(run)
    return [_named_apart(run, groups[run.recipe["scheme"], run.recipe["weights"]]) for run in runs]


def _named_apart(run: RunResult, alike: list[RunResult]) -> RunResult:
    said = {
        name: [one.recipe["settings"].get(name) for one in alike]
        for name in sorted({name for one in alike for name in one.recipe["settings"]})
    }
    differ = [name for name, values in said.items() if any(value != values[0] for value in values)]
    words = [f"{name} {_brief(run.recipe['settings'].get(name))}" for name in differ]
    for field, unit in (("n_train", " images"), ("precision", ""), ("backbone", "")):
        if len({one.recipe[field] for one in alike}) > 1:
            words.append(f"{run.recipe[field]}{unit}")
    if not words:
        return run
    scheme = f"{run.recipe['scheme']} ({', '.join(words)})"
    return dataclasses.replace(run, recipe={**run.recipe, "scheme": scheme})


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_lines(folder: Path) -> list[str]:
    """Return all that is worth knowing of one run."""
    run = read_run(folder)
    row, recipe, last = _row(run), run.recipe, run.history.to_dict("records")[-1:]
    lines = [
        folder.name,
        f"  {recipe['scheme']}, weights {recipe['weights']}, seed {recipe['seed']}, {recipe['precision']}",
        f"  {data_of(recipe)}",
        f"  test: {100 * row['accuracy']:.2f} % (95 %: {100 * row['low']:.2f} to {100 * row['high']:.2f}), "
        f"log loss {row['log_loss']:.4f}",
        f"  time: {shown_seconds(run.costs['total_seconds'])} in all, training "
        f"{shown_seconds(run.costs['train_seconds'])}, memory {run.costs['peak_memory_mb']:,.0f} MB",
    ]
    for epoch in last:
        lines.append(
            f"  last epoch {epoch['epoch']}: train loss {epoch['train_loss']:.4f}, val loss "
            f"{epoch['val_loss']:.4f}, val accuracy {100 * epoch['val_accuracy']:.2f} %"
        )
    if "prefix" in recipe:
        lines.append(f"  trained {recipe['prefix']}")
    lines += [f"  warning: {text}" for text in recipe.get("warnings", [])]
    lines += ["  settings:"] + [f"    {name} = {value}" for name, value in sorted(recipe["settings"].items())]
    return [*lines, f"  files: {folder}"]


def predict_text(text: str, places: Sequence[str], *, form: str) -> tuple[str, list[list[str]]]:
    """Return the answers of a run for pictures, as csv or json, and [path, why] of unreadable ones."""
    folder, paths = find_run(text), find_pictures(places)
    weights = _weights_of(folder)
    with ShownProgress(None) as progress:
        found = run_in_child(predict, {"run": str(folder), "weights": weights, "paths": paths}, progress)
    if form == "json":
        return json.dumps(found["rows"], indent=2, ensure_ascii=False) + "\n", found["unreadable"]
    file = io.StringIO()
    places_of = range(1, SHOWN + 1)
    header = ["path"] + [f"{word}_{place}" for place in places_of for word in ("class", "probability")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "class", "probability", *header[3:]])
    for row in found["rows"]:
        writer.writerow([row["path"], *(value for pair in row["top"] for value in pair)])
    return file.getvalue(), found["unreadable"]


def export_lines(text: str, out: str, formats: list[str]) -> list[str]:
    """Export a run; return what was written, and how it compares with the run's own answers."""
    check_target(out, formats)
    folder = find_run(text)
    recipe = _recipe(folder)
    order = {
        "run": str(folder),
        "weights": _weights_of(folder),
        "dataset": str(_dataset_of(recipe)),
        "out": out,
    }
    with ShownProgress(None) as progress:
        found = run_in_child(export, {**order, "formats": formats}, progress)
    lines = [f"{kind}: parity on {said}" for kind, said in found["parity"].items()]
    return [*lines, *(f"wrote {path}" for path in found["files"])]


def _row(run: RunResult) -> dict[str, Any]:
    recipe, test = run.recipe, run.split("test")
    scores = score(test)
    known = {
        "run": run.folder.name,
        **{name: recipe[name] for name in ("scheme", "weights", "seed")},
        "data_set": recipe["dataset_title"],
        "accuracy": scores["accuracy"],
        "low": scores["accuracy_low"],
        "high": scores["accuracy_high"],
        "log_loss": scores["log_loss"],
        "seconds": run.costs["total_seconds"],
    }
    return {name: known[name] for name in COLUMNS}


def _filter(text: str):
    """Return the test of a row that scheme=head:*, accuracy>0.6 or seconds<60 stands for."""
    for sign in "=<>":
        name, found, value = text.partition(sign)
        if not found:
            continue
        if name not in COLUMNS:
            raise BadInput(f"--only {text!r}: expected one of {', '.join(COLUMNS)} before {sign}")
        if sign == "=":
            return lambda row: fnmatch.fnmatchcase(str(row[name]), value)
        try:
            bound = float(value)
        except ValueError:
            raise BadInput(f"--only {text!r}: expected a number behind {sign}, received {value!r}") from None
        if name in ("run", "scheme", "weights", "data_set"):
            raise BadInput(f"--only {text!r}: expected = behind {name}, which is no number")
        return lambda row: row[name] < bound if sign == "<" else row[name] > bound
    raise BadInput(f"--only {text!r}: expected a filter such as scheme=head:* or accuracy>0.6")


def _recipe(folder: Path) -> dict:
    return read_run(folder).recipe


def _weights_of(folder: Path) -> str | None:
    """Return the folder of the weights that a run needs to be whole, None where it needs none."""
    recipe = _recipe(folder)
    if not needs_weights(recipe):
        return None
    features = recipe["fingerprint"]["features"]
    key = key_of({"backbone": features["backbone"], **features["weights"]})
    place = data_folder() / "raw" / "weights" / f"{features['backbone']}-{features['weights']['name']}-{key}"
    if not (place / MANIFEST).is_file():
        raise BadInput(
            f"{folder.name}: its backbone's weights are not at {place}; get them with `luigi --module tasks "
            f"DownloadWeights --backbone {features['backbone']} --weights {features['weights']['name']}`"
        )
    return str(place)


def _dataset_of(recipe: dict) -> Path:
    found = list(dataset_folders(data_folder(), [recipe]).values())
    if not found:
        raise BadInput(
            f"the data set {recipe['dataset']} of this run is not in {data_folder() / 'datasets'}; prepare "
            f"it with `luigi --module tasks PrepareDataset --dataset {dataset_text(recipe['dataset'])}`"
        )
    read_manifest(found[0])
    return found[0]
