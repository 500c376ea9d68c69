"""What a run of the graph would do, and what it would take, told without doing any of it."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass

from pipeline.errors import DamagedFile
from pipeline.features.sections import Section, missing_sections
from pipeline.formatting import aligned, counted, readable_bytes, readable_seconds
from pipeline.storage.fingerprint import differences
from pipeline.storage.publishing import MANIFEST, read_manifest
from pipeline.upkeep.estimates import Estimate, Measurements
from tasks import CompareSchemes, PrepareDataset
from tasks.commands.shared import add_graph_options, comparison_of, show
from tasks.configuration import data_folder
from tasks.features import FeatureTask, request_of
from tasks.task import Task
from tasks.training import TrainTask

DESCRIPTION = (
    "List every task of a preset as done, stale or missing, and estimate time and disk space of what is "
    "to do from what was measured on this machine. Changes nothing."
)
EXAMPLES = """examples:
  headstart plan                                  what `headstart run` would do, and what it would take
  headstart plan --preset full --weights hed      the same for all of CIFAR-10
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_graph_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return show(plan_lines(comparison_of(options)))


DONE, STALE, MISSING = "done", "stale", "missing"
UNMEASURED = "not measured yet on this machine"
UNRECORDED = "time not recorded"
MEASURABLE = (FeatureTask, TrainTask)  # they leave costs.json


@dataclass(frozen=True)
class Step:
    """A task of the graph: done, stale or missing; why, in words; and whether a run would do it now."""

    task: Task
    state: str
    why: str
    wanted: bool

    @property
    def place(self) -> str:
        """The folder of its result below the data folder."""
        return self.task.folder.relative_to(data_folder()).as_posix()


def steps(root: Task) -> list[Step]:
    """Return every task that root needs and root itself, each once, what others need first.

    Luigi looks below a task only where it is not done; so does a step's `wanted`.
    """
    states = {task: state_of(task) for task in tasks_of(root)}
    wanted, waiting = set(), [root]
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
    why = task.output().why_missing()
    if why is None:
        undone = next((needed for needed in task.deps() if not needed.complete()), None)
        return STALE, f"its input {undone} is not done" if undone else "its inputs changed since it was made"
    return STALE if _has_manifest(task) else MISSING, _short(why, task)


def _short(why: str, task: Task) -> str:
    """Return why without the folder, which stands beside it; of two fingerprints the foremost difference."""
    if not isinstance(task, FeatureTask) and not (task.folder / MANIFEST).exists():
        return "begun, not finished" if task.folder.exists() else "not made yet"
    with contextlib.suppress(DamagedFile):
        apart = differences(read_manifest(task.folder).fingerprint, task.fingerprint)
        if apart and not isinstance(task, FeatureTask):
            return apart[0]
    return why.removeprefix(f"{task.folder}: ").removeprefix(f"{task.folder}/")


def missing_of(task: FeatureTask) -> list[Section]:
    """Return the sections of features that a task would compute."""
    return missing_sections(task.folder, *request_of(task.fingerprint))


def plan_lines(root: CompareSchemes) -> list[str]:
    """Return what `headstart plan` prints: a line for each task, then a total."""
    measured, covered = Measurements(data_folder()), set()
    rows, estimates = [], []
    found = steps(root)
    for step in found:
        words = ""
        if step.wanted:
            estimate = estimate_of(step.task, measured, covered)
            estimates.append((step.task, estimate))
            words = _in_words(step.task, estimate)
        elif step.state != DONE:
            words = "not needed now, all that is made from it is done"
        rows.append((step.state, step.task.task_family, step.place, words, step.why))
    return [*aligned(rows), "", _total(len(found), estimates)]


def estimate_of(task: Task, measured: Measurements, covered: set[tuple]) -> Estimate:
    """Return what a task will take. covered has the (cache, view, layer) of tasks before, and is added to."""
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


def _has_manifest(task: Task) -> bool:
    if isinstance(task, FeatureTask):
        return any((section.folder / MANIFEST).exists() for section in missing_of(task))
    return (task.folder / MANIFEST).exists()


def _in_words(task: Task, estimate: Estimate) -> str:
    parts = [f"about {readable_bytes(estimate.bytes)}"] if estimate.bytes else []
    if estimate == Estimate(0.0, 0):
        return "comes with the features above"
    if estimate.seconds is None:
        return ", ".join([UNMEASURED if isinstance(task, MEASURABLE) else UNRECORDED, *parts])
    return ", ".join([f"about {readable_seconds(estimate.seconds)}", *parts])


def _total(count: int, estimates: list[tuple[Task, Estimate]]) -> str:
    """Return the last line: how many tasks are to do, what they take, and what of that is not known."""
    line = f"{len(estimates)} of {counted(count, 'task')} to do"
    if not estimates:
        return f"{line}: everything is there"
    timed = [estimate.seconds for _, estimate in estimates if estimate.seconds is not None]
    sized = [estimate.bytes for _, estimate in estimates if estimate.bytes is not None]
    known = [readable_seconds(sum(timed))] if timed else []
    known += [readable_bytes(sum(sized))] if sized else []
    line += f", about {', '.join(known)}" if known else ""
    unknown = [isinstance(task, MEASURABLE) for task, estimate in estimates if estimate.seconds is None]
    if any(unknown):
        line += f"; not counted: {counted(sum(unknown), 'task')} not measured yet on this machine"
    if not all(unknown):
        line += f"; the time of {counted(unknown.count(False), 'task')} (data, tables, plots) is not recorded"
    return line
