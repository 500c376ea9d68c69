"""Run all schemes of a preset and compare them."""

from __future__ import annotations

import argparse
import sys
import time

import luigi

from pipeline.errors import BadInput
from tasks.commands.shared import EXIT_FAILED, add_graph_options, comparison_of
from tasks.configuration import data_folder
from tasks.task import Task

DESCRIPTION = "Run all schemes of a preset and compare them; what is done already is not done again."
EXAMPLES = """examples:
  headstart run                                   all schemes on scanned digits, no download
  headstart run --preset quick                    all schemes on a subset of CIFAR-10
  headstart run --preset full --weights hed       CIFAR-10 without the ImageNet weights
  headstart run --preset quick --seeds 0,1,2      three seeds each
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_graph_options(parser)
    parser.add_argument("--workers", type=int, default=1, help="tasks that run at the same time (default: 1)")
    parser.add_argument("--scheduler-url", help="a luigid to ask, such as http://localhost:8082")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    began = time.perf_counter()
    if options.workers < 1:
        raise BadInput(f"--workers: expected 1 or more, received {options.workers}")
    root = comparison_of(options)
    if not root.complete():
        url = options.scheduler_url
        place = {"scheduler_url": url} if url else {}
        settings = {"workers": options.workers, "local_scheduler": not url, "log_level": "WARNING", **place}
        luigi.build([root], **settings)
    if not root.complete():
        print("headstart: some tasks failed, see above; what is finished is kept", file=sys.stderr)
        return EXIT_FAILED
    print(root.row.title)
    print((root.folder / "comparison.txt").read_text(encoding="utf-8"))
    print(f"The page: {root.folder / 'index.html'}  (in {time.perf_counter() - began:.1f} s)")
    return 0


@Task.event_handler(luigi.Event.START)
def _note_start(task: Task) -> None:
    task.started = time.perf_counter()


@Task.event_handler(luigi.Event.SUCCESS)
def _show_success(task: Task) -> None:
    place = task.folder.relative_to(data_folder())
    sys.stderr.write(f"{time.perf_counter() - task.started:8.1f} s  {task.task_family:<16}  {place}\n")
