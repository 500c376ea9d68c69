"""The `headstart` command: the graph for users who do not know Luigi."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from pipeline import __version__
from pipeline.errors import HeadstartError
from pipeline.formatting import printable
from tasks.parameters import EXIT_BAD_INPUT, one_line_errors

EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141
FORMATTER = argparse.RawDescriptionHelpFormatter  # keeps the line breaks of the examples

# Each sub-command with its line of help. The module of that name is imported when the command runs: its
# docstring is the description and, after a blank line, examples; add_options(parser, arguments) adds the
# options, and run(options) runs the command and returns its exit code.
COMMANDS = {
    "recommend": "recommend an input size and layers for a data set",
    "train": "train one run",
    "recipes": "list recipes, or print the settings of one",
    "run": "run all schemes of a preset and compare them",
    "plan": "list the tasks of a preset with estimated time and disk space",
    "why": "explain why a task is not done, or what a folder is",
    "verify": "check the files and features in the data folder",
    "clean": "list or remove unused files in the data folder",
    "runs": "list finished runs",
    "show": "print the details of one run",
    "delete": "delete a run and its reports",
    "open": "open a report in the browser",
    "compare": "compare runs in a report",
    "predict": "classify pictures with a finished run",
    "embed": "write the features of pictures or of a data set to a file",
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


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message and where the help is."""
        self.exit(EXIT_BAD_INPUT, f"headstart: error: {printable(message)}; see `{self.prog} --help`\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 30 for failed tasks."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # their encoding may lack a name's characters, or a dash
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with one_line_errors():
            options = parser_for(arguments or [""]).parse_args(arguments)
            code = options.action(options)
        sys.stdout.flush()  # raises BrokenPipeError here instead of at exit
        return code
    except HeadstartError as error:
        print(printable(f"headstart: error: {error}", "\n"), file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # such as from `headstart show RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, EOFError):  # at a question
        print("headstart: interrupted; finished results are kept, run again to resume", file=sys.stderr)
        return EXIT_INTERRUPTED


def parser_for(arguments: list[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line, with the options of its sub-command; without arguments, of all."""
    parser = Parser(
        prog="headstart",
        description="Run a pretrained VGG16 once, cache its activations, and compare classifiers.",
        epilog=EXAMPLES,
        formatter_class=FORMATTER,
    )
    parser.add_argument("--version", action="version", version=f"headstart {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help in COMMANDS.items():
        if arguments and name != arguments[0]:
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
        module.add_options(command, arguments)
        command.set_defaults(action=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
