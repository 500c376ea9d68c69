"""Measure input sizes and layers on a subset of a data set, and recommend what to train and how.

examples:
  headstart recommend --dataset cifar10
  headstart recommend --dataset folder:photos --budget 60
"""

import argparse

from tasks import Recommend
from tasks.commands.build import build
from tasks.commands.options import add_task_options, task_of
from tasks.commands.shared import show


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    add_task_options(parser, Recommend)


def run(options: argparse.Namespace) -> int:
    task = task_of(Recommend, options)
    if code := build([task]):
        return code
    text = (task.folder / "recommendation.txt").read_text(encoding="utf-8")
    return show([*text.splitlines(), "", f"Picture: {task.folder / 'recommendation.png'}"])
