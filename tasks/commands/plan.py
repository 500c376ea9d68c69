"""List every task of a preset as done, stale or missing, and estimate the time and disk space of the tasks
to run: from measurements on this machine, or else from its speed, which is measured once and kept.

examples:
  headstart plan                                  the tasks of `headstart run` with estimates
  headstart plan --preset full                    the same for all of CIFAR-10
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets.table import parse_budget
from pipeline.features.sections import Section, missing_sections
from pipeline.formatting import align_columns, format_bytes, format_duration, pluralize
from pipeline.storage.publishing import MANIFEST
from pipeline.upkeep.estimates import Estimate, Measurements, images_of, work_of
from tasks import CompareSchemes, PrepareDataset
from tasks.commands.options import add_task_options, task_of
from tasks.commands.shared import short_path, show
from tasks.configuration import data_folder
from tasks.features import FeatureTask
from tasks.task import Task
from tasks.training import TrainTask, TuneHead

DONE, STALE, MISSING = "done", "stale", "missing"
UNMEASURED = "not measured yet on this machine"
MEASURABLE = (FeatureTask, TrainTask)  # these write costs.json
Column = tuple[Path, str, str]  # cache, view and layer of features


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    add_task_options(parser, CompareSchemes)


def run(options: argparse.Namespace) -> int:
    rows, root = [], task_of(CompareSchemes, options)
    plan = steps(root)
    estimates = estimates_of(plan)
    for task, state, why, to_run in plan:
        details = "" if state == DONE else "not needed: everything that depends on it is done"
        if to_run:
            details = _format(isinstance(task, MEASURABLE), estimates[task])
        rows.append((state, task.display_name, short_path(task.folder), details, why))
    schemes = costs_of_schemes(root.runs, estimates)
    return show([*align_columns(rows), "", *root.notes, *schemes, _total(len(plan), estimates)])


def estimates_of(plan: "list[Step]") -> dict[Task, Estimate]:
    """Return the estimate of each task that a run would execute; features that tasks share count once."""
    measured, covered = Measurements(data_folder()), set[Column]()
    estimates = {}
    to_run = [step.task for step in plan if step.to_run]
    for task in sorted(to_run, key=lambda task: -task.priority):  # as Luigi starts them
        sections = [one for one in missing_of(task) if not columns_of(one) <= covered]
        estimates[task] = estimate_of(task, sections, measured)
        covered = covered.union(*map(columns_of, sections))
        if isinstance(task, FeatureTask) and sections and (averages := task.by_products):
            wanted = averages["request"]
            columns = itertools.product([averages["folder"]], wanted["views"], wanted["layers"])
            covered |= set(columns)
    return estimates


def costs_of_schemes(runs: Sequence[TrainTask], estimates: dict[Task, Estimate]) -> list[str]:
    """Return a line for each run that is still to be trained: about how long it will take.

    A sweep that several runs share is counted for the first of them, features for the run whose task computes
    them. Training includes the sweep. Unknown times are shown as "?".
    """
    rows = [("scheme", "weights", "input", "seed", "features", "training")]
    counted = set[Task]()
    for run in dict.fromkeys(run for run in runs if run in estimates):
        own = [part for part in tasks_of(run) if part in estimates and part not in counted]
        counted.update(own)
        features = [estimates[part] for part in own if isinstance(part, FeatureTask)]
        training = [estimates[part] for part in own if isinstance(part, TrainTask | TuneHead)]
        name, pixels = f"{run.scheme.name}:{run.recipe}", f"{run.pixels} px"
        rows.append((name, run.weights_title, pixels, str(run.seed), _sum(features), _sum(training)))
    return [*align_columns(rows), ""] if counted else []


def _sum(estimates: list[Estimate]) -> str:
    seconds = [estimate.seconds for estimate in estimates]
    if None in seconds:
        return "?"
    total = sum(filter(None, seconds))
    return format_duration(total) if total else "–"


class Step(NamedTuple):
    """A task of the graph, its state (done, stale or missing), why, and whether a run would execute it."""

    task: Task
    state: str
    why: str
    to_run: bool


def steps(*roots: Task) -> list[Step]:
    """Return the roots and every task below them, each once, dependencies first.

    As in Luigi, tasks below a finished task are not to run.
    """
    states = {task: state_of(task) for root in roots for task in tasks_of(root)}
    to_run: set[Task] = set()
    pending = [*roots]
    while pending:
        task = pending.pop()
        if task not in to_run and states[task][0] != DONE:
            to_run.add(task)
            pending += task.deps()
    return [Step(task, state, why, task in to_run) for task, (state, why) in states.items()]


def tasks_of(root: Task) -> list[Task]:
    """Return root and every task below it, each once, dependencies first."""
    visited: dict[Task, None] = {}

    def visit(task: Task) -> None:
        if task not in visited:
            for dependency in task.deps():
                visit(dependency)
            visited[task] = None

    visit(root)
    return list(visited)


def state_of(task: Task) -> tuple[str, str]:
    """Return whether a task is done, stale or missing, and why; "" for done.

    A stale result has a damaged manifest or one of another task, damaged or missing files, or inputs that
    changed. A missing result does not exist or was never finished.
    """
    if task.complete():
        return DONE, ""
    why = task.why_missing()
    if why is None:
        unfinished = next((other for other in task.deps() if not other.complete()), None)
        return STALE, f"its input {unfinished} is not done" if unfinished else "its inputs have changed"
    why = why.removeprefix(f"{task.folder}: ").removeprefix(f"{task.folder}/")  # the folder is listed anyway
    if isinstance(task, FeatureTask):
        published = any((section.folder / MANIFEST).exists() for section in missing_of(task))
        return STALE if published else MISSING, why
    if not (task.folder / MANIFEST).exists():
        return MISSING, "started but not finished" if task.folder.exists() else "not started"
    return STALE, why


def missing_of(task: Task) -> list[Section]:
    """Return the sections of features that a task still has to compute; none if it extracts no features."""
    if not isinstance(task, FeatureTask):
        return []
    return missing_sections(task.folder, task.fingerprint)


def columns_of(section: Section) -> set[Column]:
    """Return the columns of a section."""
    return {(section.cache, section.view, layer) for layer in section.layers}


def estimate_of(task: Task, sections: list[Section], measured: Measurements) -> Estimate:
    """Return the estimate for a task that computes these sections of features."""
    if isinstance(task, FeatureTask):
        return measured.features(sections, images_of(task.fingerprint["dataset"]))
    if isinstance(task, TrainTask | TuneHead):
        images = measured.training_images(task.fingerprint["dataset"])
        images = round(images * (parse_budget(task.resolved.label_budget).share or 1))
        points = math.prod(map(len, task.values_to_try.values())) if isinstance(task, TuneHead) else 0
        cached = bool(task.prefix_plan and task.prefix_plan.cached)
        work = work_of(task.resolved, task.backbone_row, task.pixels, cached=cached, points=points)
        if isinstance(task, TrainTask):
            return measured.run(task.fingerprint, images, work)
        if work:
            return measured.work(work, task.fingerprint["precision"], images)
    if isinstance(task, PrepareDataset):
        pixels = 3 * task.fingerprint["image_size"] ** 2  # bytes of an image in uint8
        return Estimate(None, images_of(task.fingerprint) * pixels)
    return Estimate(None, None)


def _format(measurable: bool, estimate: Estimate) -> str:
    if estimate == Estimate(0.0, 0):
        return "computed with the features above"
    text = UNMEASURED if measurable else "time not recorded"
    if estimate.seconds is not None:
        text = f"about {format_duration(estimate.seconds)}"
    return text + (f", about {format_bytes(estimate.bytes)}" if estimate.bytes else "")


def _total(count: int, estimates: dict[Task, Estimate]) -> str:
    """Return the last line: the number of tasks to run, their estimated total, and what it leaves out."""
    line = f"{len(estimates)} of {pluralize(count, 'task')} to run"
    if not estimates:
        return f"{line}: everything is up to date"
    seconds = [estimate.seconds for estimate in estimates.values() if estimate.seconds is not None]
    sizes = [estimate.bytes for estimate in estimates.values() if estimate.bytes is not None]
    totals = [format_duration(sum(seconds))] if seconds else []
    totals += [format_bytes(sum(sizes))] if sizes else []
    line += f", about {', '.join(totals)}" if totals else ""
    unknown = [isinstance(task, MEASURABLE) for task, one in estimates.items() if one.seconds is None]
    if any(unknown):
        line += f"; not counted: {pluralize(sum(unknown), 'task')} {UNMEASURED}"
    if count := unknown.count(False):
        line += f"; the time of {pluralize(count, 'task')} (data, tables, plots) is not recorded"
    return line
