"""The base classes of all tasks: a fingerprint, a folder named by it, and safe publishing."""

import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import luigi
from luigi.cmdline_parser import CmdlineParser

from pipeline.children import run_in_child
from pipeline.extensions import resolve
from pipeline.formatting import printable
from pipeline.storage import layout, publishing
from pipeline.storage.fingerprint import key_of
from tasks.configuration import check_writable, data_folder
from tasks.parameters import one_line_errors
from tasks.progress import ProgressReporter


class Task(luigi.Task):
    """A task whose result is a published folder; subclasses define kind, label, fingerprint and make.

    Parameters are checked when a task is created, so mistakes are reported before anything runs.
    """

    kind: ClassVar[str]  # the kind of folder, one of layout.KINDS
    place = ""  # in the list of tasks that a command runs, such as "3/14 "; shown with its progress

    def __init__(self, *args: Any, **kwargs: Any):
        with one_line_errors():
            if CmdlineParser.get_instance():  # Luigi's command line, which runs what it creates
                check_writable()
            super().__init__(*args, **kwargs)
            key_of(self.fingerprint)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything the result depends on, as plain values; raises BadInput for invalid parameters."""
        raise NotImplementedError

    @property
    def display_name(self) -> str:
        """The task's name in lists."""
        return self.task_family

    @property
    def label(self) -> str:
        """The folder's name without its key."""
        raise NotImplementedError

    def make(self) -> None:
        """Compute the result and publish it in self.folder."""
        raise NotImplementedError

    @property
    def identity(self) -> dict[str, Any]:
        """The values that the key in the folder's name is the hash of."""
        return self.fingerprint

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the result."""
        return layout.keyed_path(data_folder(), f"{layout.folder_of(self.kind)}/{self.label}", self.identity)

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of the required tasks, by name."""
        return {name: task.folder for name, task in self.requires().items()}

    def why_missing(self) -> str | None:
        """Return why the folder does not hold the result, or None if it does."""
        return publishing.why_incomplete(self.folder, self.fingerprint)

    def complete(self) -> bool:
        """Return whether the folder holds the result."""
        return self.why_missing() is None

    def run(self) -> None:
        """Make the result, unless another process made it while this one waited for the lock."""
        with publishing.claimed(layout.lock_of(data_folder(), self.folder)):
            if not self.complete():
                self.make()

    def in_child(self, function: str, **arguments: Any) -> Any:
        """Run `module:function` of pipeline/ in a child process, with progress, and return its result."""
        with ProgressReporter(self) as progress:
            return run_in_child(function, arguments, progress)

    def in_process(self, function: str, **arguments: Any) -> Any:
        """Run `module:function` of pipeline/ in this process; the module is imported only now."""
        return resolve(function)(**arguments)

    def __repr__(self) -> str:
        """Return the task's name with its significant parameters, except those that are unset."""
        parameters = [
            f"{name}={parameter.serialize(value)}"
            for name, parameter in self.get_params()
            if parameter.significant and (value := getattr(self, name)) not in (None, (), {})
        ]
        return f"{self.task_family}({', '.join(parameters)})"


class DerivedTask(Task):
    """A report on the results of other tasks, which is made again when one of them changes."""

    @property
    def shown(self) -> Sequence[tuple[Any, ...]]:
        """What the report shows: for each result, the values that tell it from the others, then its task."""
        raise NotImplementedError

    @property
    def sources(self) -> Sequence[Task]:
        """The tasks whose results are in the report: those that it shows."""
        return [part[-1] for part in self.shown]

    @property
    def facts(self) -> dict[str, Any]:
        """The stamps of the sources, which show whether the report is stale."""
        return {"sources": [stamp_of(task.folder) for task in self.sources]}

    def requires(self) -> Any:
        """Return the sources."""
        return self.sources

    def complete(self) -> bool:
        """Return whether the result is complete and its sources have not changed since."""
        if not (super().complete() and all(task.complete() for task in self.sources)):
            return False
        return publishing.read_manifest(self.folder).facts == self.facts

    def publish(self, files: list[str]) -> None:
        """Publish the manifest of the result's folder."""
        publishing.publish_manifest(self.folder, self.fingerprint, files, self.facts)


def stamp_of(folder: Path) -> str | None:
    """Return the sha256 of a folder's manifest, which changes with any of its files; None without one."""
    path = folder / publishing.MANIFEST
    return publishing.sha256_of(path) if path.is_file() else None


def command_of(
    command: str, task: type[luigi.Task], values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> str:
    """Return a command of headstart with values of a task's parameters, without those at their default.

    A parameter that defaults lacks has Luigi's default. A default of None includes the parameter always.
    """
    parts = ["headstart", *command.split()]
    for name, value in values.items():
        parameter = getattr(task, name)
        if value != (defaults[name] if name in defaults else parameter.task_value(task.__name__, name)):
            parts += [f"--{name.replace('_', '-')}", parameter.serialize(value)]
    return printable(shlex.join(parts))
