"""The console command: the same graph for people who do not know Luigi."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from pipeline import __version__
from pipeline.errors import HeadstartError
from tasks.parameters import EXIT_BAD_INPUT

EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141
FORMATTER = argparse.RawDescriptionHelpFormatter  # examples stay as they are written

# A row a sub-command: its line of help. The module of that name is loaded when the command is asked for: its
# docstring is the description and, behind an empty line, examples; add_options(parser) adds the options, and
# run(options) runs the command and returns its exit code.
COMMANDS = {
    "run": "run all schemes of a preset and compare them",
    "plan": "list what a run would do, and what it would take",
    "why": "explain a task, or an entry of the data folder",
    "verify": "check the files and the features in the data folder",
    "clean": "list or remove what nobody needs in the data folder",
    "runs": "list finished runs",
    "show": "print all that is known of one run",
    "compare": "compare any runs in a report",
    "predict": "classify pictures with a finished run",
    "export": "write a run as a model for elsewhere",
    "doctor": "check this machine, and say what will be slow",
    "completion": "print a shell's completions",
}
EXAMPLES = """examples:
  headstart run                                   all schemes on scanned digits, no download
  headstart run --preset quick --dataset folder:photos
  headstart runs --sort accuracy                  what is finished, the most accurate first
  headstart run --help                            more of one command

Every task can also be run by Luigi: luigi --module tasks CompareSchemes --preset demo
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 30 for failed tasks."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = parser_for(arguments[:1]).parse_args(arguments)
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


def parser_for(names: list[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the options of the sub-commands that are named."""
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Run a pretrained VGG16 once, cache what it saw, and compare ways to classify with it.",
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
