"""List every task of a preset as done, stale or missing, and estimate time and disk space of what is to do
from what was measured on this machine. Changes nothing.

examples:
  headstart plan                                  what `headstart run` would do, and what it would take
  headstart plan --preset full --weights hed      the same for all of CIFAR-10
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DamagedFile
from pipeline.features.sections import Section, missing_sections
from pipeline.formatting import align_columns, format_bytes, format_duration, pluralize
from pipeline.storage.fingerprint import differences
from pipeline.storage.publishing import MANIFEST, read_manifest
from pipeline.upkeep.estimates import Estimate, Measurements
from tasks import PrepareDataset
from tasks.commands.shared import add_graph_options, comparison_of, place_of, show
from tasks.configuration import data_folder
from tasks.features import FeatureTask, request_of
from tasks.task import Task
from tasks.training import TrainTask

DONE, STALE, MISSING = "done", "stale", "missing"
UNMEASURED = "not measured yet on this machine"
MEASURABLE = (FeatureTask, TrainTask)  # they leave costs.json
Column = tuple[Path, str, str]  # cache, view and layer of features

add_options = add_graph_options


def run(options: argparse.Namespace) -> int:
    measured, covered = Measurements(data_folder()), set[Column]()
    rows, estimates = [], []
    found = steps(comparison_of(options))
    for step in found:
        words = ""
        if step.wanted:
            estimate = estimate_of(step.task, measured, covered)
            estimates.append((isinstance(step.task, MEASURABLE), estimate))
            words = _in_words(*estimates[-1])
        elif step.state != DONE:
            words = "not needed now, all that is made from it is done"
        rows.append((step.state, step.task.task_family, place_of(step.task.folder), words, step.why))
    return show([*align_columns(rows), "", _total(len(found), estimates)])


@dataclass(frozen=True)
class Step:
    """A task of the graph: done, stale or missing; why, in words; and whether a run would do it now."""

    task: Task
    state: str
    why: str
    wanted: bool


def steps(root: Task) -> list[Step]:
    """Return every task that root needs and root itself, each once, what others need first.

    Luigi looks below a task only where it is not done; so does a step's `wanted`.
    """
    states = {task: state_of(task) for task in tasks_of(root)}
    wanted: set[Task] = set()
    waiting = [root]
    while waiting:
        task = waiting.pop()
        if task not in wanted and states[task][0] != DONE:
            wanted.add(task)
            waiting += task.deps()
    return [Step(task, state, why, task in wanted) for task, (state, why) in states.items()]


def tasks_of(root: Task) -> list[Task]:
    """Return every task that root needs and root itself, each once, what others need first."""
    found: dict[Task, None] = {}

    def visit(task: Task) -> None:
        if task not in found:
            for needed in task.deps():
                visit(needed)
            found[task] = None

    visit(root)
    return list(found)


def state_of(task: Task) -> tuple[str, str]:
    """Return whether a task is done, stale or missing, and why in words, "" for done.

    Stale is what has a manifest that is damaged or of something else, files that are not whole, or inputs
    that changed; missing is what is not there or was never finished.
    """
    if task.complete():
        return DONE, ""
    why = task.why_missing()
    if why is None:
        undone = next((needed for needed in task.deps() if not needed.complete()), None)
        return STALE, f"its input {undone} is not done" if undone else "its inputs changed since it was made"
    why = why.removeprefix(f"{task.folder}: ").removeprefix(f"{task.folder}/")  # which stands beside it
    if isinstance(task, FeatureTask):
        begun = any((section.folder / MANIFEST).exists() for section in missing_of(task))
        return STALE if begun else MISSING, why
    if not (task.folder / MANIFEST).exists():
        return MISSING, "begun, not finished" if task.folder.exists() else "not made yet"
    with contextlib.suppress(DamagedFile):
        why = next(iter(differences(read_manifest(task.folder).fingerprint, task.fingerprint)), why)
    return STALE, why


def missing_of(task: FeatureTask) -> list[Section]:
    """Return the sections of features that a task would compute."""
    return missing_sections(task.folder, *request_of(task.fingerprint))


def estimate_of(task: Task, measured: Measurements, covered: set[Column]) -> Estimate:
    """Return what a task will take. covered has the columns of tasks before, and is added to."""
    if isinstance(task, FeatureTask):
        ahead = [
            section
            for section in missing_of(task)
            if not {(section.cache, section.view, layer) for layer in section.layers} <= covered
        ]
        covered |= {(one.cache, one.view, layer) for one in ahead for layer in one.layers}
        return measured.features(ahead, measured.images(task.fingerprint["dataset"]))
    if isinstance(task, TrainTask):
        return measured.run(task.fingerprint, measured.images(task.fingerprint["dataset"], "train"))
    if isinstance(task, PrepareDataset):
        pixels = 3 * task.fingerprint["image_size"] ** 2  # bytes of an image in uint8
        return Estimate(None, measured.images(task.fingerprint) * pixels)
    return Estimate(None, None)


def _in_words(measurable: bool, estimate: Estimate) -> str:
    if estimate == Estimate(0.0, 0):
        return "comes with the features above"
    seconds = UNMEASURED if measurable else "time not recorded"
    if estimate.seconds is not None:
        seconds = f"about {format_duration(estimate.seconds)}"
    return ", ".join([seconds, *([f"about {format_bytes(estimate.bytes)}"] if estimate.bytes else [])])


def _total(count: int, estimates: list[tuple[bool, Estimate]]) -> str:
    """Return the last line: how many tasks are to do, what they take, and what of that is not known."""
    line = f"{len(estimates)} of {pluralize(count, 'task')} to do"
    if not estimates:
        return f"{line}: everything is there"
    timed = [estimate.seconds for _, estimate in estimates if estimate.seconds is not None]
    sized = [estimate.bytes for _, estimate in estimates if estimate.bytes is not None]
    known = [format_duration(sum(timed))] if timed else []
    known += [format_bytes(sum(sized))] if sized else []
    line += f", about {', '.join(known)}" if known else ""
    unknown = [measurable for measurable, estimate in estimates if estimate.seconds is None]
    if any(unknown):
        line += f"; not counted: {pluralize(sum(unknown), 'task')} {UNMEASURED}"
    if not all(unknown):
        line += (
            f"; the time of {pluralize(unknown.count(False), 'task')} (data, tables, plots) is not recorded"
        )
    return line
