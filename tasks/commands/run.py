"""Run all schemes of a preset and compare them; finished tasks are not repeated.

examples:
  headstart run                                   heads, block 5 and a network from scratch, on 2,000 images
  headstart run --preset quick                    all schemes on a subset of CIFAR-10
  headstart run --preset full                     all schemes on CIFAR-10
  headstart run --preset quick --seeds 0,1,2      each scheme with three seeds
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import luigi
from filelock import FileLock, Timeout

from pipeline.errors import BadInput, ChildFailed, HeadstartError
from pipeline.report.table import COMPARISON_PAGE
from pipeline.storage import layout
from pipeline.storage.publishing import check_free_space
from tasks.commands.plan import costs_of_schemes, estimates_of, steps
from tasks.commands.shared import EXIT_FAILED, add_graph_options, comparison_of, short_path
from tasks.configuration import data_folder
from tasks.task import Task


def add_options(parser: argparse.ArgumentParser) -> None:
    add_graph_options(parser)
    parser.add_argument("--workers", type=int, default=1, help="tasks that run at the same time (default: 1)")
    parser.add_argument("--scheduler-url", help="URL of a luigid, such as http://localhost:8082")


def run(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    if options.workers < 1:
        raise BadInput(f"--workers: expected 1 or more, received {options.workers}")
    root = comparison_of(options)
    reasons: list[str] = []
    if not root.complete():
        for note in root.notes:
            print(f"headstart: {note}", file=sys.stderr)
        estimates = estimates_of(steps(root))
        size = sum(estimate.bytes or 0 for estimate in estimates.values())
        check_free_space(data_folder(), size, "the images, features and runs of this preset")
        if costs := costs_of_schemes(root, estimates):
            print("About how long this will take on this machine:", *costs, sep="\n", file=sys.stderr)
        url = {"scheduler_url": options.scheduler_url} if options.scheduler_url else {}
        with _reasons_of_failures(reasons), _in_use(options.preset):
            luigi.build([root], workers=options.workers, local_scheduler=not url, log_level="WARNING", **url)
    if not root.complete():
        print("headstart: some tasks failed, see above; finished results are kept", file=sys.stderr)
        for reason in reasons:
            print(f"headstart: {reason}", file=sys.stderr)
        return EXIT_FAILED
    print(root.title)
    print((root.folder / "comparison.txt").read_text(encoding="utf-8"))
    print(f"Report: {root.folder / COMPARISON_PAGE}  (in {time.perf_counter() - start:.1f} s)")
    return 0


@contextlib.contextmanager
def _in_use(preset: str) -> Iterator[None]:
    """Hold a lock that keeps `headstart clean` from removing what the next task of this run will read."""
    data = data_folder()
    lock = FileLock(layout.lock_of(data, data / layout.folder_of("run") / f"preset-{preset}"))
    with contextlib.suppress(Timeout, OSError):  # another process that runs this preset holds it
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _reasons_of_failures(reasons: list[str]) -> Iterator[None]:
    """Append a line for each failure inside the block: the first line of the error, then what to do."""
    with tempfile.TemporaryFile("a+", encoding="utf-8") as shared:  # Luigi's workers are forks

        def write(_: Task, error: BaseException) -> None:
            if isinstance(error, HeadstartError) and not isinstance(error, ChildFailed):
                lines = str(error).splitlines()
                shared.write(". ".join(dict.fromkeys((lines[0], lines[-1]))) + "\n")
                shared.flush()

        Task.event_handler(luigi.Event.FAILURE)(write)
        try:
            yield
        finally:
            Task.remove_event_handler(luigi.Event.FAILURE, write)
            shared.seek(0)
            reasons += dict.fromkeys(shared.read().splitlines())


@Task.event_handler(luigi.Event.PROCESSING_TIME)
def _show_time(task: Task, seconds: float) -> None:
    sys.stderr.write(f"{seconds:8.1f} s  {task.task_family:<16}  {short_path(task.folder)}\n")
