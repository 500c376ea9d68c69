"""Say why a task is not done and in which field the nearest cached entry differs; or what an entry of the
data folder is and who wants it. Changes nothing.

examples:
  headstart why TrainHead --preset quick          why each head is trained again, or is not
  headstart why ExtractFeatures                   what the features lack, and how the nearest differ
  headstart why 5d3bd8b9e05c                      what the folder of this key is, and who wants it
  headstart why vgg16-hed-digits                  the same for all folders whose names begin so
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from pipeline.backbones.table import USUAL, weights_names
from pipeline.errors import BadInput
from pipeline.formatting import align_columns, format_bytes, pluralize, printable
from pipeline.recipes.presets import PRESETS
from pipeline.storage.fingerprint import differences, fields, said
from pipeline.upkeep.clean import Needs, Request, satisfies
from pipeline.upkeep.inventory import Entry, entries
from tasks import CompareSchemes
from tasks.commands.plan import DONE, Step, missing_of, steps, tasks_of
from tasks.commands.shared import add_graph_options, comparison_of, place_of, show
from tasks.configuration import data_folder
from tasks.features import FeatureTask, request_of

SHORTEST_PREFIX = 3  # letters of a folder's name; fewer would explain half of the data folder


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="TASK-OR-KEY", help="a task, a key, or the beginning of a folder's name"
    )
    add_graph_options(parser)


def run(options: argparse.Namespace) -> int:
    name, graph, known = options.name, steps(comparison_of(options)), entries(data_folder())
    told = [_on_task(step, known) for step in graph if step.task.task_family == name]
    told = told or [_on_entry(entry, known, graph) for entry in _matching(name, known)]
    if told:
        lines = [line for part in told for line in ("", *part)]  # an empty line between two
        return show(printable(line) for line in lines[1:])
    families = sorted({step.task.task_family for step in graph})
    below = ("metrics", "plots", "findings")  # folders of one name below every run's
    folders = sorted({entry.folder.name for entry in known if entry.kind not in below})
    raise BadInput(
        f"unknown task or key {name!r}: expected one of {', '.join(families)}, or the key or the beginning "
        f"of the name of a folder: {', '.join(map(printable, folders)) or 'there is none yet'}"
    )


def nearest(kind: str, wanted: dict[str, Any], known: list[Entry]) -> tuple[Entry, list[str]] | None:
    """Return the finished entry of a kind that differs in the fewest fields, and how; None without one.

    Of runs, those of the same scheme are looked at only. The differences say what the entry has and what
    is wanted, those that say most first.
    """
    found = []
    for entry in known:
        have = entry.manifest.fingerprint if entry.manifest else {}
        if entry.kind == kind and entry.manifest and _scheme_of(have) == _scheme_of(wanted):
            found.append((entry, differences(have, wanted)))
    apart = (one for one in found if one[1])
    return min(apart, key=lambda one: (len(one[1]), one[0].folder.name), default=None)


def needs_of(roots: list[CompareSchemes]) -> Needs:
    """Return what the graphs of roots refer to: folders by place, and features by what is in them."""
    folders, requests = set(), {}
    for task in dict.fromkeys(task for root in roots for task in tasks_of(root)):
        if isinstance(task, FeatureTask):
            requests[task] = Request(*request_of(task.fingerprint))
        else:
            folders.add(place_of(task.folder))
    return Needs(frozenset(folders), tuple(requests.values()))


def preset_graphs() -> dict[str, list[CompareSchemes]]:
    """Return the comparisons of every preset by its name, with its own and with every named weights."""
    choices = (None, *weights_names(USUAL), "random")
    return {name: [CompareSchemes(preset=name, weights=one) for one in choices] for name in PRESETS}


def _on_task(step: Step, known: list[Entry]) -> list[str]:
    why = f": {step.why}" if step.why else ""
    lines = [f"{step.task}", f"  {step.state}: {place_of(step.task.folder)}{why}"]
    if step.state == DONE:
        return lines
    wanted = [(step.task.kind, step.task.fingerprint)]
    if isinstance(step.task, FeatureTask):
        wanted = [("section", section.fingerprint) for section in missing_of(step.task)]
    for kind, fingerprint in wanted:
        if any(entry.manifest and entry.manifest.fingerprint == fingerprint for entry in known):
            continue  # it is the right one: why says what is wrong with it
        near = nearest(kind, fingerprint, known)
        if near is None:
            lines.append(f"  nothing like it is there: no finished {kind} to compare with")
        else:
            lines += [f"  nearest: {place_of(near[0].folder)}", _differs(near[1])]
    return lines


def _on_entry(entry: Entry, known: list[Entry], graph: list[Step]) -> list[str]:
    lines = [f"{place_of(entry.folder)}: {entry.kind}"]
    if entry.fault:
        return [*lines, f"  damaged: {entry.fault}"]
    if entry.manifest is None:
        inside = sum(other.folder.parent == entry.folder for other in known)
        return [*lines, f"  {pluralize(inside, 'section')}" if inside else "  unfinished: it has no manifest"]
    missing = entry.manifest.missing()
    size = f"{pluralize(len(entry.manifest.files), 'file')}, {format_bytes(entry.manifest.bytes)}"
    whole = f"not whole: {missing}" if missing else "whole by sizes; `headstart verify` reads the bytes"
    shown = [(f"    {path}", said(value)) for path, value in fields(entry.manifest.fingerprint)]
    wanted = _wanted_by(entry, entry.manifest.fingerprint, graph)
    return [*lines, f"  {size}, {whole}", "  made from:", *align_columns(shown), *wanted]


def _wanted_by(entry: Entry, have: dict[str, Any], graph: list[Step]) -> list[str]:
    """Return which presets refer to an entry, or its first difference to the nearest task of the graph."""
    names = [name for name, roots in preset_graphs().items() if _refers(needs_of(roots[:1]), entry)]
    if names:
        return [f"  wanted by preset {', '.join(names)}"]
    wanted = []
    for task in (step.task for step in graph):
        kind, fingerprint = task.kind, task.fingerprint
        if isinstance(task, FeatureTask):
            base, layers, views = request_of(fingerprint)
            view = have["view"] if have.get("view") in views else views[0]
            kind, fingerprint = "section", {**base, "view": view, "layers": list(layers)}
        if kind == entry.kind and (apart := differences(have, fingerprint)):
            wanted.append((apart, task))
    if not wanted:
        return ["  wanted by no preset"]
    apart, task = min(wanted, key=lambda item: len(item[0]))
    return ["  wanted by no preset with its own options", f"  nearest: {task}", _differs(apart)]


def _differs(apart: list[str]) -> str:
    return f"  differs in {pluralize(len(apart), 'field')}, first {apart[0]}"


def _refers(needs: Needs, entry: Entry) -> bool:
    if entry.kind in ("cache", "section"):
        return any(satisfies(entry, request) for request in needs.requests)
    return place_of(entry.folder) in needs.folders


def _matching(name: str, known: list[Entry]) -> list[Entry]:
    """Return the entries whose key or beginning of a name is given; of a cache its sections as well."""
    if re.fullmatch(r"[0-9a-f]{12}", name):
        found = {entry.folder for entry in known if entry.folder.name.endswith(f"-{name}")}
    elif len(name) < SHORTEST_PREFIX:
        return []
    else:
        found = {entry.folder for entry in known if entry.folder.name.startswith(name)}
    return [
        one for one in known if one.folder in found or (one.kind == "section" and one.folder.parent in found)
    ]


def _scheme_of(fingerprint: dict[str, Any]) -> str:
    return str(fingerprint.get("scheme", "")).partition(":")[0]
