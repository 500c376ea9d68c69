"""Options of sub-commands from the parameters of Luigi tasks, so that each is declared once."""

import argparse
from collections.abc import Mapping
from typing import Any, TypeVar

import luigi.configuration

from tasks import ExtractFeatures, PrepareDataset
from tasks.task import Task

AnyTask = TypeVar("AnyTask", bound=Task)

DATA = {name for name, _ in PrepareDataset.get_params()}
FEATURES = {name for name, parameter in ExtractFeatures.get_params() if parameter.significant} - DATA
CLUSTER = ("dask", "allow_mixed_workers")


def add_task_options(
    parser: argparse.ArgumentParser, task: type[Task], defaults: Mapping[str, Any] | None = None
) -> None:
    """Add an option for each significant parameter of a task, in groups, and those of a Dask cluster.

    defaults are shown instead of the parameters' own. Raises BadInput.
    """
    titles = ("data", "features", "training" if hasattr(task, "recipe") else "settings")
    groups = [parser.add_argument_group(title) for title in titles]
    for name, parameter in task.get_params():
        if not parameter.significant:
            continue
        group = groups[0 if name in DATA else 1 if name in FEATURES else 2]
        help, _, elsewhere = (parameter.description or "").partition(" [default: ")
        default = (defaults or {}).get(name, parameter.task_value(task.task_family, name))
        shown = f"{parameter.serialize(default)}".replace("%", "%%") or "none"
        if default is None:
            shown = elsewhere.removesuffix("]") or "none"
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=parameter.parse,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{help} (default: {shown})",
        )
    cluster = parser.add_argument_group("cluster", argument_default=argparse.SUPPRESS)
    dask, mixed = (dict(ExtractFeatures.get_params())[name] for name in CLUSTER)
    cluster.add_argument("--dask", metavar="ADDRESS", type=dask.parse, help=dask.description)
    cluster.add_argument("--allow-mixed-workers", action="store_true", help=mixed.description)


def task_of(task: type[AnyTask], options: argparse.Namespace) -> AnyTask:
    """Return the task with the values of the options that were given.

    Those of a Dask cluster become the defaults of all extractions in this process.
    """
    for name in set(CLUSTER) & set(vars(options)):
        luigi.configuration.get_config().set("ExtractFeatures", name, str(getattr(options, name)))
    return task(**given(task, options))


def given(task: type[Task], options: argparse.Namespace) -> dict[str, Any]:
    """Return the values of a task's parameters that were given as options."""
    return {name: getattr(options, name) for name, _ in task.get_params() if hasattr(options, name)}
