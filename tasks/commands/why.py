"""Why a task is not done, and what an entry of the data folder is."""

from __future__ import annotations

import argparse
import re

from pipeline.backbones.table import USUAL, weights_names
from pipeline.errors import BadInput
from pipeline.formatting import aligned, counted, plain, readable_bytes
from pipeline.recipes.presets import PRESETS
from pipeline.storage.fingerprint import differences, fields, said
from pipeline.storage.layout import kind_of
from pipeline.upkeep.clean import Needs, Request, answers
from pipeline.upkeep.inventory import Entry, entries
from tasks import CompareSchemes
from tasks.commands.plan import DONE, Step, missing_of, steps, tasks_of
from tasks.commands.shared import add_graph_options, comparison_of, show
from tasks.configuration import data_folder
from tasks.features import FeatureTask, request_of
from tasks.task import Task

DESCRIPTION = (
    "Say why a task is not done and in which field the nearest cached entry differs; or what an entry "
    "of the data folder is and who wants it. Changes nothing."
)
EXAMPLES = """examples:
  headstart why TrainHead --preset quick          why each head is trained again, or is not
  headstart why ExtractFeatures                   what the features lack, and how the nearest differ
  headstart why 5d3bd8b9e05c                      what the folder of this key is, and who wants it
  headstart why vgg16-hed-digits                  the same for all folders whose names begin so
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "name", metavar="TASK-OR-KEY", help="a task, a key, or the beginning of a folder's name"
    )
    add_graph_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return show(why_lines(options.name, comparison_of(options)))


SHORTEST_PREFIX = 3  # letters of a folder's name; fewer would explain half of the data folder


def why_lines(name: str, root: CompareSchemes) -> list[str]:
    """Return what `headstart why` prints on a task family of root's graph, or on entries of the data folder.

    Raises BadInput that lists what is known when name is neither.
    """
    graph, known = steps(root), entries(data_folder())
    named = [step for step in graph if step.task.task_family == name]
    if named:
        return _joined(_on_task(step, known) for step in named)
    found = _matching(name, known)
    if found:
        return _joined(_on_entry(entry, known, graph) for entry in found)
    families = sorted({step.task.task_family for step in graph})
    below = ("metrics", "plots", "findings")  # folders of one name below every run's
    folders = sorted({entry.folder.name for entry in known if entry.kind not in below})
    raise BadInput(
        f"unknown task or key {name!r}: expected one of {', '.join(families)}, or the key or the beginning "
        f"of the name of a folder: {', '.join(map(plain, folders)) or 'there is none yet'}"
    )


def nearest(kind: str, wanted: dict, known: list[Entry]) -> tuple[Entry, list[str]] | None:
    """Return the finished entry of a kind that differs in the fewest fields, and how; None without one.

    Of runs, those of the same scheme are looked at only. The differences say what the entry has and what
    is wanted, those that say most first.
    """
    found = []
    for entry in known:
        if entry.kind == kind and entry.manifest and _same_scheme(entry.manifest.fingerprint, wanted):
            apart = differences(entry.manifest.fingerprint, wanted)
            if apart:
                found.append((len(apart), entry.folder.name, entry, apart))
    return min(found, key=lambda item: item[:2])[2:] if found else None


def needs_of(roots: list[CompareSchemes]) -> Needs:
    """Return what the graphs of roots refer to: folders by place, and features by what is in them."""
    folders, requests = set(), {}
    for task in dict.fromkeys(task for root in roots for task in tasks_of(root)):
        if isinstance(task, FeatureTask):
            requests[task] = Request(*request_of(task.fingerprint))
        else:
            folders.add(task.folder.relative_to(data_folder()).as_posix())
    return Needs(frozenset(folders), tuple(requests.values()))


def preset_graphs() -> dict[str, list[CompareSchemes]]:
    """Return the comparisons of every preset by its name, with its own and with every named weights."""
    choices = (None, *weights_names(USUAL), "random")
    return {name: [CompareSchemes(preset=name, weights=one) for one in choices] for name in PRESETS}


def _on_task(step: Step, known: list[Entry]) -> list[str]:
    lines = [f"{step.task}", f"  {step.state}: {step.place}" + (f": {step.why}" if step.why else "")]
    if step.state == DONE:
        return lines
    for kind, wanted in _wanted(step.task):
        if any(entry.manifest and entry.manifest.fingerprint == wanted for entry in known):
            continue  # it is the right one: why says what is wrong with it
        near = nearest(kind, wanted, known)
        if near is None:
            lines.append(f"  nothing like it is there: no finished {kind} to compare with")
        else:
            entry, apart = near
            lines.append(f"  nearest: {_place(entry)}")
            lines.append(f"  differs in {counted(len(apart), 'field')}, first {apart[0]}")
    return lines


def _wanted(task: Task) -> list[tuple[str, dict]]:
    """Return the kinds and fingerprints of what a task that is not done would make."""
    if isinstance(task, FeatureTask):
        return [("section", section.fingerprint) for section in missing_of(task)]
    place = task.folder.relative_to(data_folder()).as_posix()
    return [(kind_of(place) or "unknown", task.fingerprint)]


def _on_entry(entry: Entry, known: list[Entry], graph: list[Step]) -> list[str]:
    lines = [f"{_place(entry)}: {entry.kind}"]
    if entry.fault:
        return [*lines, f"  damaged: {entry.fault}"]
    if entry.manifest is None:
        inside = sum(other.folder.parent == entry.folder for other in known)
        return [*lines, f"  {counted(inside, 'section')}" if inside else "  unfinished: it has no manifest"]
    missing = entry.manifest.missing()
    size = f"{counted(len(entry.manifest.files), 'file')}, {readable_bytes(entry.manifest.bytes)}"
    whole = f"not whole: {missing}" if missing else "whole by sizes; `headstart verify` reads the bytes"
    lines.append(f"  {size}, {whole}")
    shown = [(f"    {path}", said(value)) for path, value in fields(entry.manifest.fingerprint)]
    lines += ["  made from:", *aligned(shown), *_referring(entry, graph)]
    return lines


def _referring(entry: Entry, graph: list[Step]) -> list[str]:
    """Return which presets refer to an entry, or its first difference to the nearest task of the graph."""
    names = [name for name, roots in preset_graphs().items() if _refers(needs_of(roots[:1]), entry)]
    if names:
        return [f"  wanted by preset {', '.join(names)}"]
    wanted = [
        (len(apart), apart[0], step.task)
        for step in graph
        for kind, fingerprint in _all_of(step.task, entry)
        if kind == entry.kind and (apart := differences(entry.manifest.fingerprint, fingerprint))
    ]
    if not wanted:
        return ["  wanted by no preset"]
    count, first, task = min(wanted, key=lambda item: item[0])
    return [
        "  wanted by no preset with its own options",
        f"  nearest: {task}",
        f"  differs in {counted(count, 'field')}, first {first}",
    ]


def _all_of(task: Task, entry: Entry) -> list[tuple[str, dict]]:
    """Return the kinds and fingerprints of what a task makes, done or not, to compare with an entry."""
    if not isinstance(task, FeatureTask):
        return _wanted(task)
    base, layers, views = request_of(task.fingerprint)
    view = entry.manifest.fingerprint.get("view")
    return [("section", {**base, "view": view if view in views else views[0], "layers": list(layers)})]


def _refers(needs: Needs, entry: Entry) -> bool:
    if entry.kind in ("cache", "section"):
        return any(answers(entry, request) for request in needs.requests)
    return _place(entry) in needs.folders


def _matching(name: str, known: list[Entry]) -> list[Entry]:
    """Return the entries whose key or beginning of a name is given; of a cache its sections as well."""
    if re.fullmatch(r"[0-9a-f]{12}", name):
        found = {entry.folder for entry in known if entry.folder.name.endswith(f"-{name}")}
    elif len(name) < SHORTEST_PREFIX:
        found = set()
    else:
        found = {entry.folder for entry in known if entry.folder.name.startswith(name)}
    return [
        one for one in known if one.folder in found or (one.kind == "section" and one.folder.parent in found)
    ]


def _same_scheme(have: dict, want: dict) -> bool:
    schemes = [str(one.get("scheme", "")).partition(":")[0] for one in (have, want)]
    return schemes[0] == schemes[1]


def _place(entry: Entry) -> str:
    return entry.folder.relative_to(data_folder()).as_posix()


def _joined(parts) -> list[str]:
    """Return the lines of all parts with an empty line between two."""
    lines = [line for part in parts for line in ("", *part)]
    return [plain(line) for line in lines[1:]]
