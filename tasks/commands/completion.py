"""Print a shell script that completes the commands and options of headstart.

examples:
  headstart completion bash > ~/.local/share/bash-completion/completions/headstart
  headstart completion zsh > ~/.zfunc/_headstart
"""

import argparse

import shtab

from tasks.commands import main


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="shell to print the script for")


def run(options: argparse.Namespace) -> int:
    print(shtab.complete(main.parser_for([]), options.shell))
    return 0
