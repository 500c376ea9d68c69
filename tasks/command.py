"""The console command: the same graph for people who do not know Luigi."""

from __future__ import annotations

import argparse
import os
import sys
import time

from pipeline import __version__
from pipeline.backbones.table import BACKBONES, USUAL
from pipeline.errors import BadInput, HeadstartError

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 30, 2, 130, 141

EXIT_DAMAGED = 1
DEFAULT_SAMPLE = 64  # images of each cache: half a pass, a second's work

MAIN_EXAMPLES = """examples:
  headstart run                                   all schemes on scanned digits, no download
  headstart run --preset quick --dataset folder:photos
  headstart runs --sort accuracy                  what is finished, the most accurate first
  headstart run --help                            more of one command

Every task can also be run by Luigi: luigi --module tasks CompareSchemes --preset demo
"""
RUN_EXAMPLES = """examples:
  headstart run                                   all schemes on scanned digits, no download
  headstart run --preset quick                    all schemes on a subset of CIFAR-10
  headstart run --preset full --weights hed       CIFAR-10 without the ImageNet weights
  headstart run --preset quick --seeds 0,1,2      three seeds each
"""
PLAN_EXAMPLES = """examples:
  headstart plan                                  what `headstart run` would do, and what it would take
  headstart plan --preset full --weights hed      the same for all of CIFAR-10
"""
WHY_EXAMPLES = """examples:
  headstart why TrainHead --preset quick          why each head is trained again, or is not
  headstart why ExtractFeatures                   what the features lack, and how the nearest differ
  headstart why 5d3bd8b9e05c                      what the folder of this key is, and who wants it
  headstart why vgg16-hed-digits                  the same for all folders whose names begin so
"""
VERIFY_EXAMPLES = """examples:
  headstart verify                                every file by sha256, 64 rows of each feature cache anew
  headstart verify --sample 0                     the files only: no network is run
  headstart verify --repair                       damaged files go to data/quarantine/, features are rebuilt

exit codes: 0 all is sound, 1 something is damaged, 2 bad input
"""
CLEAN_EXAMPLES = """examples:
  headstart clean                                 list what no preset and no run needs, with sizes
  headstart clean --yes                           remove just that

Runs and reports that are finished stay, and so does what a person put into data/.
"""
RUNS_EXAMPLES = """examples:
  headstart runs                                  all finished runs, the most accurate first
  headstart runs cifar10 --sort seconds           those with cifar10 in their name, the quickest first
  headstart runs --only 'scheme=head:*' --only 'accuracy>0.6' --json
"""
SHOW_EXAMPLES = """examples:
  headstart show head-linear-digits-hed-seed0     a run by its name, or a part of it that no other has
  headstart show data/runs/head-linear-digits-hed-seed0-5d3bd8b9e05c
"""
COMPARE_EXAMPLES = """examples:
  headstart compare fine-tune-whole-digits-hed tuned-head-linear-digits-hed --name mine
"""
PREDICT_EXAMPLES = """examples:
  headstart predict fine-tune-whole-cifar10-hed photo.jpg holiday/      CSV on the terminal
  headstart predict fine-tune-whole-cifar10-hed holiday/ --format json --output answers.json

exit codes: 0 all is classified, 1 some pictures could not be read (they are named), 2 bad input
"""
EXPORT_EXAMPLES = """examples:
  headstart export head-dense-cifar10-hed model.keras
  headstart export head-dense-cifar10-hed model.keras --format keras,saved_model,tflite
"""
DOCTOR_EXAMPLES = """examples:
  headstart doctor                                what this machine has, what will be slow and why
  headstart doctor --offline                      without asking the mirrors
"""
COMPLETION_EXAMPLES = """examples:
  headstart completion bash > ~/.local/share/bash-completion/completions/headstart
  headstart completion zsh > ~/.zfunc/_headstart
"""
SHELLS = ("bash", "zsh", "tcsh")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 30 for failed tasks."""
    options = _parser().parse_args(arguments)
    try:
        code = options.action(options)
        sys.stdout.flush()  # a reader that went away is noticed here, not when Python ends
        return code
    except HeadstartError as error:
        print(f"headstart: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # such as of `headstart show RUN | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        print("headstart: interrupted; what is finished is kept, run again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Run a pretrained VGG16 once, cache what it saw, and compare ways to classify with it.",
        epilog=MAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"headstart {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_plan(commands)
    _add_why(commands)
    _add_verify(commands)
    _add_clean(commands)
    _add_runs(commands)
    _add_show(commands)
    _add_compare(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_doctor(commands)
    _add_completion(commands)
    return parser


def _add_command(commands, name: str, action, epilog: str, help: str, description: str):
    """Add a subcommand, whose help ends with examples, and return its parser."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(action=action)
    return parser


def _add_graph_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which preset is meant, and on which data."""
    parser.add_argument("--preset", default="demo", help="demo, quick or full (default: demo)")
    parser.add_argument("--dataset", help="data set instead of the preset's: cifar10 or digits")
    parser.add_argument("--subset", type=int, help="images of a stratified subset, 0 for all")
    parser.add_argument("--backbone", default=USUAL, help=f"{', '.join(BACKBONES)} (default: {USUAL})")
    parser.add_argument("--weights", help="imagenet, hed, random, a path, or a URL#sha256=...")
    parser.add_argument("--seeds", help="seeds, such as 0,1,2")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (default: auto)")


def _add_run(commands) -> None:
    description = "Run all schemes of a preset and compare them; what is done already is not done again."
    help = "run all schemes of a preset and compare them"
    run = _add_command(commands, "run", _run, RUN_EXAMPLES, help, description)
    _add_graph_options(run)
    run.add_argument("--workers", type=int, default=1, help="tasks that run at the same time (default: 1)")
    run.add_argument("--scheduler-url", help="a luigid to ask, such as http://localhost:8082")


def _add_plan(commands) -> None:
    description = (
        "List every task of a preset as done, stale or missing, and estimate time and disk space of what is "
        "to do from what was measured on this machine. Changes nothing."
    )
    help = "list what a run would do, and what it would take"
    _add_graph_options(_add_command(commands, "plan", _plan, PLAN_EXAMPLES, help, description))


def _add_why(commands) -> None:
    description = (
        "Say why a task is not done and in which field the nearest cached entry differs; or what an entry "
        "of the data folder is and who wants it. Changes nothing."
    )
    help = "explain a task, or an entry of the data folder"
    why = _add_command(commands, "why", _why, WHY_EXAMPLES, help, description)
    why.add_argument("name", metavar="TASK-OR-KEY", help="a task, a key, or the beginning of a folder's name")
    _add_graph_options(why)


def _add_verify(commands) -> None:
    description = (
        "Check every file that a manifest lists by size and sha256, and compute a sample of cached features "
        "again from their images."
    )
    help = "check the files and the features in the data folder"
    verify = _add_command(commands, "verify", _verify, VERIFY_EXAMPLES, help, description)
    words = f"rows of each section of features to compute again (default: {DEFAULT_SAMPLE})"
    verify.add_argument("--sample", type=int, default=DEFAULT_SAMPLE, help=words)
    verify.add_argument("--seed", type=int, default=0, help="seed that draws the rows (default: 0)")
    verify.add_argument("--repair", action="store_true", help="put damaged files aside and rebuild features")


def _add_clean(commands) -> None:
    description = (
        "List what lies in the data folder and neither a preset nor a run needs; remove it with --yes."
    )
    help = "list or remove what nobody needs in the data folder"
    clean = _add_command(commands, "clean", _clean, CLEAN_EXAMPLES, help, description)
    clean.add_argument("--yes", action="store_true", help="remove what is listed")


def _add_runs(commands) -> None:
    help = "list finished runs"
    runs = _add_command(
        commands, "runs", _runs, RUNS_EXAMPLES, help, "List finished runs with their results."
    )
    runs.add_argument("pattern", nargs="?", default="", help="a part of their names (default: all)")
    sorts = "accuracy, log_loss, seconds or run"
    runs.add_argument("--sort", default="accuracy", help=f"{sorts} (default: accuracy)")
    words = "a filter such as scheme=head:*, accuracy>0.6 or seconds<60; may be given several times"
    runs.add_argument("--only", action="append", default=[], metavar="FILTER", help=words)
    runs.add_argument("--json", action="store_true", help="as JSON")


def _add_show(commands) -> None:
    help = "print all that is known of one run"
    show = _add_command(commands, "show", _show_run, SHOW_EXAMPLES, help, "Print one run.")
    show.add_argument("run", metavar="RUN", help="a run's folder, name, or a part of its name")


def _add_compare(commands) -> None:
    description = "Compare any runs on the same images, with paired statistics, in a report of its own."
    compare = _add_command(
        commands, "compare", _compare, COMPARE_EXAMPLES, "compare any runs in a report", description
    )
    compare.add_argument("runs", metavar="RUN", nargs="+", help="folders, names or parts of names")
    compare.add_argument("--name", default="compared", help="data/reports/NAME (default: compared)")


def _add_predict(commands) -> None:
    description = "Classify pictures (PNG, JPEG, WebP, BMP, GIF; any size and mode) with a finished run."
    help = "classify pictures with a finished run"
    predict = _add_command(commands, "predict", _predict, PREDICT_EXAMPLES, help, description)
    predict.add_argument("run", metavar="RUN", help="a run's folder, name, or a part of its name")
    predict.add_argument("paths", metavar="PATH", nargs="+", help="pictures, and folders of pictures")
    predict.add_argument("--format", default="csv", choices=("csv", "json"), help="(default: csv)")
    predict.add_argument("--output", metavar="FILE", help="a file to write instead of the terminal")


def _add_export(commands) -> None:
    description = (
        "Write a run's whole network, raw pixels in, as one .keras file with class names and a model card; "
        "refused unless it gives the run's own answers."
    )
    export = _add_command(
        commands, "export", _export, EXPORT_EXAMPLES, "write a run as a model for elsewhere", description
    )
    export.add_argument("run", metavar="RUN", help="a run's folder, name, or a part of its name")
    export.add_argument("out", metavar="OUT", help="the .keras file to write")
    words = "some of keras, saved_model, tflite by commas (default: keras)"
    export.add_argument("--format", default="keras", help=words)


def _add_doctor(commands) -> None:
    description = (
        "Check Python, packages, processor, memory, disk and mirrors; say what will be slow and why."
    )
    help = "check this machine, and say what will be slow"
    doctor = _add_command(commands, "doctor", _doctor, DOCTOR_EXAMPLES, help, description)
    doctor.add_argument("--offline", action="store_true", help="do not ask the mirrors")


def _add_completion(commands) -> None:
    description = "Print a script that completes the commands and options of headstart in a shell."
    completion = _add_command(
        commands, "completion", _completion, COMPLETION_EXAMPLES, "print a shell's completions", description
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")


def _completion(options: argparse.Namespace) -> int:
    import shtab

    return _show([shtab.complete(_parser(), options.shell)])


def _doctor(options: argparse.Namespace) -> int:
    from tasks.doctor import doctor_lines

    lines, sound = doctor_lines(offline=options.offline)
    _show(lines)
    return 0 if sound else EXIT_DAMAGED


def _runs(options: argparse.Namespace) -> int:
    import json

    from tasks.finished import run_rows, runs_lines

    rows, unread = run_rows(options.pattern, sort=options.sort, only=options.only)
    _show([json.dumps(rows, indent=2)] if options.json else runs_lines(rows))
    return _told(unread)


def _show_run(options: argparse.Namespace) -> int:
    from tasks.finished import find_run, show_lines

    return _show(show_lines(find_run(options.run)))


def _compare(options: argparse.Namespace) -> int:
    from tasks.finished import compare_lines

    return _show(compare_lines(options.runs, options.name))


def _predict(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pipeline.publishing import publish_text
    from tasks.finished import predict_text

    text, unreadable = predict_text(options.run, options.paths, form=options.format)
    if options.output:
        publish_text(Path(options.output), text)
    else:
        print(text, end="")
    return _told([why for _, why in unreadable])


def _export(options: argparse.Namespace) -> int:
    from tasks.finished import export_lines

    formats = [part.strip() for part in options.format.split(",") if part.strip()]
    return _show(export_lines(options.run, options.out, formats))


def _told(faults: list[str]) -> int:
    """Print what could not be read, and return the exit code."""
    for text in faults:
        print(f"headstart: {text}", file=sys.stderr)
    return EXIT_DAMAGED if faults else 0


def _run(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    from tasks.running import run_graph

    if options.workers < 1:
        raise BadInput(f"--workers: expected 1 or more, received {options.workers}")
    parameters = _parameters(options)
    root, succeeded = run_graph(workers=options.workers, scheduler_url=options.scheduler_url, **parameters)
    if not succeeded:
        print("headstart: some tasks failed, see above; what is finished is kept", file=sys.stderr)
        return EXIT_FAILED
    print(root.row.title)
    print((root.folder / "comparison.txt").read_text(encoding="utf-8"))
    print(f"The page: {root.folder / 'index.html'}  (in {time.perf_counter() - began:.1f} s)")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from tasks import CompareSchemes
    from tasks.planning import plan_lines

    return _show(plan_lines(CompareSchemes(**_parameters(options))))


def _why(options: argparse.Namespace) -> int:
    from tasks import CompareSchemes
    from tasks.explaining import why_lines

    return _show(why_lines(options.name, CompareSchemes(**_parameters(options))))


def _verify(options: argparse.Namespace) -> int:
    from tasks.configuration import data_folder
    from tasks.housekeeping import verify_lines
    from tasks.progress import ShownProgress

    for name in ("sample", "seed"):
        if not 0 <= getattr(options, name) < 2**31:
            raise BadInput(f"--{name}: expected 0 to 2147483647, received {getattr(options, name)}")
    with ShownProgress(None) as progress:
        lines, sound = verify_lines(
            data_folder(), sample=options.sample, seed=options.seed, mend=options.repair, progress=progress
        )
    _show(lines)
    return 0 if sound else EXIT_DAMAGED


def _clean(options: argparse.Namespace) -> int:
    from tasks.configuration import data_folder
    from tasks.housekeeping import clean_lines

    return _show(clean_lines(data_folder(), agreed=options.yes))


def _show(lines: list[str]) -> int:
    for line in lines:
        print(line)
    return 0


def _parameters(options: argparse.Namespace) -> dict:
    """Return the parameters of CompareSchemes that the options of a preset stand for; raise BadInput."""
    return {
        "preset": options.preset,
        "dataset": options.dataset,
        "subset": options.subset,
        "backbone": options.backbone,
        "weights": options.weights,
        "seeds": (options.seeds and _numbers(options.seeds)) or None,
        "precision": options.precision,
    }


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(f"--seeds: expected whole numbers separated by commas, received {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
