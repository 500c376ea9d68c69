"""Print the completions of a shell."""

from __future__ import annotations

import argparse

import shtab

from tasks.commands import main
from tasks.commands.shared import show

DESCRIPTION = "Print a script that completes the commands and options of headstart in a shell."
EXAMPLES = """examples:
  headstart completion bash > ~/.local/share/bash-completion/completions/headstart
  headstart completion zsh > ~/.zfunc/_headstart
"""


SHELLS = ("bash", "zsh", "tcsh")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return show([shtab.complete(main.parser_for(list(main.COMMANDS)), options.shell)])
