"""Build tasks for a sub-command: costs beforehand, Luigi's worker, reasons of failures at the end."""

import contextlib
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence

import luigi
from filelock import FileLock, Timeout

from pipeline.errors import ChildFailed, HeadstartError
from pipeline.formatting import format_duration, printable
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import check_free_space
from pipeline.upkeep.estimates import Estimate
from tasks.commands.plan import costs_of_schemes, estimates_of, steps
from tasks.commands.shared import EXIT_FAILED, short_path
from tasks.configuration import check_writable, data_folder
from tasks.task import Task
from tasks.training import TrainTask

LISTED_SECONDS = 0.05  # what took less is not worth a line
ANNOUNCED_SECONDS = 10.0  # what will take longer has a line when it starts


def build(
    roots: Sequence[Task], runs: Sequence[TrainTask] = (), *, workers: int = 1, scheduler_url: str = ""
) -> int:
    """Run what is missing below the roots and return the exit code.

    First, the estimated cost of each of runs that is missing is printed on standard error.
    """
    if all(root.complete() for root in roots):
        return 0
    check_writable()
    estimates = estimates_of(steps(*roots))
    size = sum(estimate.bytes or 0 for estimate in estimates.values())
    check_free_space(data_folder(), size, "the images, features and runs")
    if costs := costs_of_schemes(runs, estimates):
        print("About how long this will take on this machine:", *costs, sep="\n", file=sys.stderr)
    url = {"scheduler_url": scheduler_url} if scheduler_url else {}
    reasons: list[str] = []
    with _in_use(roots), _reported(estimates, reasons):
        luigi.build(roots, workers=workers, local_scheduler=not url, log_level="WARNING", **url)
    if all(root.complete() for root in roots):
        return 0
    print("headstart: some tasks failed, see above; finished results are kept", file=sys.stderr)
    for reason in reasons:
        print(printable(f"headstart: {reason}"), file=sys.stderr)
    return EXIT_FAILED


@contextlib.contextmanager
def _in_use(roots: Sequence[Task]) -> Iterator[None]:
    """Hold a lock that keeps `headstart clean` from removing what the next task of this run will read."""
    data, key = data_folder(), key_of([root.fingerprint for root in roots])
    lock = FileLock(layout.lock_of(data, data / layout.folder_of("run") / f"build-{key}"))
    with contextlib.suppress(Timeout, OSError):  # another process that runs the same tasks holds it
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _reported(estimates: dict[Task, Estimate], reasons: list[str]) -> Iterator[None]:
    """Write a line for each finished task inside the block: its number, seconds, name, and the time left.

    For each failure, a line is appended to reasons: the first line of the error, then what to do.
    """
    numbers = {task.task_id: number for number, task in enumerate(estimates)}
    seconds_of = [estimate.seconds or 0.0 for estimate in estimates.values()]
    # Luigi's workers are forks, which share these arrays and the file.
    started, done = (multiprocessing.Array("b", len(numbers)).get_obj() for _ in range(2))

    def left() -> str:
        seconds = sum(one for one, finished in zip(seconds_of, done, strict=True) if not finished)
        return f"  (about {format_duration(seconds)} left)" if seconds >= 1 else ""

    def line_of(task: Task, count: int, what: str) -> str:
        number, folder = f"{count}/{len(numbers)}", short_path(task.folder)
        return f"{number:>7} {what:>10}  {task.display_name:<16}  {folder}{left()}"

    def start(task: Task) -> None:
        number = numbers[task.task_id]
        started[number] = 1
        task.place = f"{sum(started)}/{len(numbers)} {task.display_name}{left()}: "
        if seconds_of[number] >= ANNOUNCED_SECONDS and not sys.stderr.isatty():  # a terminal shows a bar
            print(line_of(task, sum(started), "started"), file=sys.stderr)

    def finish(task: Task, seconds: float) -> None:
        done[numbers[task.task_id]] = 1
        if seconds >= LISTED_SECONDS:
            print(line_of(task, sum(done), f"{seconds:.1f} s"), file=sys.stderr)

    def fail(_: Task, error: BaseException) -> None:
        if isinstance(error, HeadstartError) and not isinstance(error, ChildFailed):
            lines = str(error).splitlines()
            failures.write(". ".join(dict.fromkeys((lines[0], lines[-1]))) + "\n")
            failures.flush()

    event = luigi.Event
    handlers = ((event.START, start), (event.PROCESSING_TIME, finish), (event.FAILURE, fail))
    with tempfile.TemporaryFile("a+", encoding="utf-8") as failures, contextlib.ExitStack() as stack:
        for name, handler in handlers:
            Task.event_handler(name)(handler)
            stack.callback(Task.remove_event_handler, name, handler)
        yield
        failures.seek(0)
        reasons += dict.fromkeys(failures.read().splitlines())
