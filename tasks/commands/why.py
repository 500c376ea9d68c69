"""Explain why a task is not done and how the nearest cached result differs, or what a folder in the data
folder holds and which presets use it. Computes nothing.

examples:
  headstart why TrainHead --preset quick          why each head is or is not trained again
  headstart why ExtractFeatures                   which features are missing, and how the nearest differ
  headstart why 5d3bd8b9e05c                      what the folder with this key holds, and what uses it
  headstart why vgg16-imagenet-cifar10             the same for all folders whose names start like this
"""

import argparse
import re
from typing import Any

from pipeline.backbones.table import DEFAULT_BACKBONE, IDENTITY, weights_name, weights_names
from pipeline.errors import BadInput
from pipeline.formatting import align_columns, format_bytes, pluralize, printable
from pipeline.recipes.presets import PRESETS
from pipeline.storage.fingerprint import differences, fields, format_field
from pipeline.upkeep.clean import Needs, satisfies
from pipeline.upkeep.inventory import Entry, entries
from tasks import CompareSchemes
from tasks.commands.options import add_task_options, task_of
from tasks.commands.plan import DONE, Step, missing_of, steps, tasks_of
from tasks.commands.shared import short_path, show
from tasks.configuration import data_folder
from tasks.features import FeatureTask

SHORTEST_PREFIX = 3  # letters of a folder's name; fewer would match half of the data folder


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("name", metavar="TASK-OR-KEY", help="a task, a key, or the start of a folder's name")
    add_task_options(parser, CompareSchemes)


def run(options: argparse.Namespace) -> int:
    name, graph, inventory = options.name, steps(task_of(CompareSchemes, options)), entries(data_folder())
    parts = [_explain_task(step, inventory) for step in graph if step.task.task_family == name]
    parts = parts or [_explain_entry(entry, inventory, graph) for entry in _matching(name, inventory)]
    if parts:
        lines = [line for part in parts for line in ("", *part)]  # a blank line between parts
        return show(lines[1:])
    families = sorted({step.task.task_family for step in graph})
    same_names = ("metrics", "plots", "findings")  # each run has folders with these names
    folders = sorted({entry.folder.name for entry in inventory if entry.kind not in same_names})
    raise BadInput(
        f"unknown task or key {name!r}: expected one of {', '.join(families)}, or the key or the start of "
        f"the name of a folder: {', '.join(map(printable, folders)) or 'none yet'}"
    )


def nearest(kind: str, fingerprint: dict[str, Any], inventory: list[Entry]) -> tuple[Entry, list[str]] | None:
    """Return the finished entry of a kind whose fingerprint differs in the fewest fields, and how; or None.

    Runs are compared only with runs of the same scheme. The most important differences come first.
    """
    candidates = []
    for entry in inventory:
        stored = entry.manifest.fingerprint if entry.manifest else {}
        if entry.kind == kind and entry.manifest and _scheme_of(stored) == _scheme_of(fingerprint):
            candidates.append((entry, differences(stored, fingerprint)))
    differing = (pair for pair in candidates if pair[1])
    return min(differing, key=lambda pair: (len(pair[1]), pair[0].folder.name), default=None)


def needs_of(roots: list[CompareSchemes]) -> Needs:
    """Return what the graphs of roots use: folders by path, and features by content."""
    tasks = dict.fromkeys(task for root in roots for task in tasks_of(root))
    requests = [task.fingerprint for task in tasks if isinstance(task, FeatureTask)]
    folders = {short_path(task.folder) for task in tasks if not isinstance(task, FeatureTask)}
    return Needs(frozenset(folders), tuple(requests))


def preset_graphs() -> dict[str, list[CompareSchemes]]:
    """Return the comparisons of every preset by name, with its default and with each named weights."""
    choices = (None, *weights_names(DEFAULT_BACKBONE), "random")
    return {name: [CompareSchemes(preset=name, weights=one) for one in choices] for name in PRESETS}


def _explain_task(step: Step, inventory: list[Entry]) -> list[str]:
    why = f": {step.why}" if step.why else ""
    lines = [f"{step.task}", f"  {step.state}: {short_path(step.task.folder)}{why}"]
    if step.state == DONE:
        return lines
    missing = [(step.task.kind, step.task.fingerprint)]
    if isinstance(step.task, FeatureTask):
        missing = [("section", section.fingerprint) for section in missing_of(step.task)]
    for kind, fingerprint in missing:
        if any(entry.manifest and entry.manifest.fingerprint == fingerprint for entry in inventory):
            continue  # the result itself is stored, and step.why names its damage
        if near := nearest(kind, fingerprint, inventory):
            lines += [f"  nearest: {short_path(near[0].folder)}", _count_differences(near[1])]
        else:
            lines.append(f"  no finished {kind} to compare with")
    return lines


def _explain_entry(entry: Entry, inventory: list[Entry], graph: list[Step]) -> list[str]:
    lines = [f"{short_path(entry.folder)}: {entry.kind}"]
    if entry.fault:
        return [*lines, f"  damaged: {entry.fault}"]
    if entry.manifest is None:
        inside = sum(other.folder.parent == entry.folder for other in inventory)
        return [*lines, f"  {pluralize(inside, 'section')}" if inside else "  unfinished: it has no manifest"]
    missing = entry.manifest.missing()
    size = f"{pluralize(len(entry.manifest.files), 'file')}, {format_bytes(entry.manifest.bytes)}"
    state = f"incomplete: {missing}" if missing else "complete; `headstart verify` checks the contents"
    rows = [(f"    {path}", format_field(value)) for path, value in fields(entry.manifest.fingerprint)]
    versions = [fields(one) for one in entry.manifest.facts.get("versions", []) if one]
    computed = [f"  computed with {', '.join(f'{name} {value}' for name, value in one)}" for one in versions]
    used_by = _used_by(entry, entry.manifest.fingerprint, graph)
    return [*lines, f"  {size}, {state}", *computed, "  made from:", *align_columns(rows), *used_by]


def _used_by(entry: Entry, stored: dict[str, Any], graph: list[Step]) -> list[str]:
    """Return which presets use an entry, or its first difference from the nearest task of the graph."""
    needs = {name: needs_of(roots[:1]) for name, roots in preset_graphs().items()}
    if entry.kind in ("cache", "section"):
        names = [name for name, one in needs.items() if any(satisfies(entry, each) for each in one.requests)]
    else:
        names = [name for name, one in needs.items() if short_path(entry.folder) in one.folders]
    if names:
        return [f"  used by preset {', '.join(names)}"]
    candidates = []
    for task in (step.task for step in graph):
        kind, fingerprint = task.kind, task.fingerprint
        if isinstance(task, FeatureTask):
            base, views = task.identity, fingerprint["views"]
            view = stored["view"] if stored.get("view") in views else views[0]
            kind, fingerprint = "section", {**base, "view": view, "layers": fingerprint["layers"]}
        if kind == entry.kind and (fields_apart := differences(stored, fingerprint)):
            candidates.append((fields_apart, task))
    if not candidates:
        return ["  not used by any preset"]
    fields_apart, task = min(candidates, key=lambda item: len(item[0]))
    unused = "  not used by any preset with its default options"
    return [unused, f"  nearest: {task}", _count_differences(fields_apart)]


def _count_differences(fields_apart: list[str]) -> str:
    first = re.sub(IDENTITY, lambda match: weights_name(match[0]), fields_apart[0])
    return f"  differs in {pluralize(len(fields_apart), 'field')}, first {first}"


def _matching(name: str, inventory: list[Entry]) -> list[Entry]:
    """Return the entries with this key or start of a name, and the sections of matching caches."""
    if re.fullmatch(r"[0-9a-f]{12}", name):
        folders = {entry.folder for entry in inventory if entry.folder.name.endswith(f"-{name}")}
    elif len(name) < SHORTEST_PREFIX:
        return []
    else:
        folders = {entry.folder for entry in inventory if entry.folder.name.startswith(name)}
    sections = {entry.folder for entry in inventory if entry.kind == "section"}
    folders |= {folder for folder in sections if folder.parent in folders}
    return [entry for entry in inventory if entry.folder in folders]


def _scheme_of(fingerprint: dict[str, Any]) -> str:
    return str(fingerprint.get("scheme", "")).partition(":")[0]
