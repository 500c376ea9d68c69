"""Run the graph from Python: quiet, one line for each task that was done, and an honest answer."""

from __future__ import annotations

import sys
import time

import luigi

from tasks import CompareSchemes
from tasks.configuration import data_folder
from tasks.task import Task


def run_graph(*, workers: int, scheduler_url: str | None, **parameters) -> tuple[CompareSchemes, bool]:
    """Run CompareSchemes with parameters; return the task, and whether it is complete now.

    Raises BadInput for parameters that do not fit, before anything runs.
    """
    root = CompareSchemes(**parameters)
    if root.complete():
        return root, True
    place = {"scheduler_url": scheduler_url} if scheduler_url else {}
    luigi.build(
        [root],
        workers=workers,
        local_scheduler=not scheduler_url,
        log_level="WARNING",
        **place,
    )
    return root, root.complete()


@Task.event_handler(luigi.Event.START)
def _note_start(task: Task) -> None:
    task.started = time.perf_counter()


@Task.event_handler(luigi.Event.SUCCESS)
def _show_success(task: Task) -> None:
    place = task.folder.relative_to(data_folder())
    sys.stderr.write(f"{time.perf_counter() - task.started:8.1f} s  {task.task_family:<16}  {place}\n")
