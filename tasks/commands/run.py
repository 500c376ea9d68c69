"""Run all schemes of a preset and compare them; finished tasks are not repeated.

examples:
  headstart run                                   heads, block 5 and a network from scratch, on 2,000 images
  headstart run --preset quick                    all schemes on a subset of CIFAR-10
  headstart run --preset full                     all schemes on CIFAR-10
  headstart run --preset quick --seeds 0,1,2      each scheme with three seeds
  headstart run --preset quick --only 'head:*'    some of the schemes
"""

import argparse
import sys
import time

from pipeline.errors import BadInput
from pipeline.formatting import printable
from pipeline.report.table import COMPARISON_PAGE
from tasks import CompareSchemes
from tasks.commands.build import build
from tasks.commands.options import add_task_options, task_of
from tasks.commands.shared import show


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    add_task_options(parser, CompareSchemes)
    parser.add_argument("--workers", type=int, default=1, help="tasks that run at the same time (default: 1)")
    parser.add_argument("--scheduler-url", help="URL of a luigid, such as http://localhost:8082")


def run(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    if options.workers < 1:
        raise BadInput(f"--workers: expected 1 or more, received {options.workers}")
    if not (options.scheduler_url or "http://").startswith(("http://", "https://")):
        raise BadInput(f"--scheduler-url: expected http://HOST:PORT, received {options.scheduler_url!r}")
    root = task_of(CompareSchemes, options)
    if not root.complete():
        for note in root.notes:
            print(printable(f"headstart: {note}"), file=sys.stderr)
    if code := build([root], root.runs, workers=options.workers, scheduler_url=options.scheduler_url):
        return code
    text = (root.folder / "comparison.txt").read_text(encoding="utf-8")
    report = f"Report: {root.folder / COMPARISON_PAGE}  (in {time.perf_counter() - start:.1f} s)"
    return show([root.title, *text.split("\n"), report])
