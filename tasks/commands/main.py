"""The `headstart` command: the graph for users who do not know Luigi."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from pipeline import __version__
from pipeline.errors import HeadstartError
from tasks.parameters import EXIT_BAD_INPUT

EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141
FORMATTER = argparse.RawDescriptionHelpFormatter  # keeps the line breaks of the examples

# Each sub-command with its line of help. The module of that name is imported when the command runs: its
# docstring is the description and, after a blank line, examples; add_options(parser) adds the options, and
# run(options) runs the command and returns its exit code.
COMMANDS = {
    "run": "run all schemes of a preset and compare them",
    "plan": "list the tasks of a preset with estimated time and disk space",
    "why": "explain why a task is not done, or what a folder is",
    "verify": "check the files and features in the data folder",
    "clean": "list or remove unused files in the data folder",
    "runs": "list finished runs",
    "show": "print the details of one run",
    "compare": "compare runs in a report",
    "predict": "classify pictures with a finished run",
    "export": "export a run as a standalone model",
    "doctor": "check this machine and explain what will be slow",
    "completion": "print a completion script for a shell",
}
EXAMPLES = """examples:
  headstart run                                   the demo, on 2,000 images of CIFAR-10
  headstart run --preset quick --dataset folder:photos
  headstart runs --sort accuracy                  finished runs, the most accurate first
  headstart run --help                            help for one command

Luigi can also run each task: luigi --module tasks CompareSchemes --preset demo
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 30 for failed tasks."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = parser_for(arguments[:1]).parse_args(arguments)
        code = options.action(options)
        sys.stdout.flush()  # raises BrokenPipeError here instead of at exit
        return code
    except HeadstartError as error:
        print(f"headstart: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # such as from `headstart show RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        print("headstart: interrupted; finished results are kept, run again to resume", file=sys.stderr)
        return EXIT_INTERRUPTED


def parser_for(names: list[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line, with options for the sub-commands in names."""
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Run a pretrained VGG16 once, cache its activations, and compare classifiers.",
        epilog=EXAMPLES,
        formatter_class=FORMATTER,
    )
    parser.add_argument("--version", action="version", version=f"headstart {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help in COMMANDS.items():
        if name not in names:
            commands.add_parser(name, help=help)
            continue
        module = importlib.import_module(f"tasks.commands.{name}")
        description, _, examples = (module.__doc__ or "").partition("\n\n")
        command = commands.add_parser(
            name,
            help=help,
            description=" ".join(description.split()),
            epilog=examples,
            formatter_class=FORMATTER,
        )
        module.add_options(command)
        command.set_defaults(action=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
