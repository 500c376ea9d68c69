"""The console command: the same graph for people who do not know Luigi."""

from __future__ import annotations

import argparse
import sys
import time

from pipeline import __version__
from pipeline.errors import BadInput, HeadstartError

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 30, 2, 130

RUN_EXAMPLES = """examples:
  headstart run                                   all schemes on scanned digits, no download
  headstart run --preset quick                    all schemes on a subset of CIFAR-10
  headstart run --preset full --weights hed       CIFAR-10 without the ImageNet weights
  headstart run --preset quick --seeds 0,1,2      three seeds each
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 30 for failed tasks."""
    options = _parser().parse_args(arguments)
    try:
        return options.action(options)
    except HeadstartError as error:
        print(f"headstart: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("headstart: interrupted; what is finished is kept, run again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Run a pretrained VGG16 once, cache what it saw, and compare ways to classify with it.",
        epilog="Every task can also be run by Luigi: luigi --module tasks CompareSchemes --preset demo",
    )
    parser.add_argument("--version", action="version", version=f"headstart {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run all schemes of a preset and compare them",
        description="Run all schemes of a preset and compare them; what is done already is not done again.",
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--preset", default="demo", help="demo, quick or full (default: demo)")
    run.add_argument("--dataset", help="data set instead of the preset's: cifar10 or digits")
    run.add_argument("--subset", type=int, help="images of a stratified subset, 0 for all")
    run.add_argument("--weights", help="imagenet, hed, random, a path, or a URL#sha256=...")
    run.add_argument("--seeds", help="seeds, such as 0,1,2")
    run.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (default: auto)")
    run.add_argument("--workers", type=int, default=1, help="tasks that run at the same time (default: 1)")
    run.add_argument("--scheduler-url", help="a luigid to ask, such as http://localhost:8082")
    run.set_defaults(action=_run)
    return parser


def _run(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    from tasks.running import run_graph

    if options.workers < 1:
        raise BadInput(f"--workers: expected 1 or more, received {options.workers}")
    seeds = options.seeds and _numbers(options.seeds)
    root, succeeded = run_graph(
        preset=options.preset,
        dataset=options.dataset,
        subset=options.subset,
        weights=options.weights,
        seeds=seeds or None,
        precision=options.precision,
        workers=options.workers,
        scheduler_url=options.scheduler_url,
    )
    if not succeeded:
        print("headstart: some tasks failed, see above; what is finished is kept", file=sys.stderr)
        return EXIT_FAILED
    print(root.row.title)
    print((root.folder / "comparison.txt").read_text(encoding="utf-8"))
    print(f"Tables and plots: {root.folder}  (in {time.perf_counter() - began:.1f} s)")
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(f"--seeds: expected whole numbers separated by commas, received {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
