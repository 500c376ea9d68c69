"""What all tasks of the graph share: a fingerprint, a folder that it names, and safe ways to fill it."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import luigi

from pipeline.children import run_in_child
from pipeline.extensions import resolve
from pipeline.storage import layout, publishing
from pipeline.storage.fingerprint import key_of
from tasks.configuration import data_folder
from tasks.parameters import one_line_errors
from tasks.progress import ShownProgress


class Result(luigi.Target):
    """The published folder of a task's result."""

    def __init__(self, task: Task):
        self.path, self.task = str(task.folder), task

    def exists(self) -> bool:
        """Say whether the result is there and whole."""
        return self.task.why_missing() is None


class Task(luigi.Task):
    """A task whose result is a published folder; subclasses define kind, label, fingerprint and make.

    Parameters are checked when a task is created: a mistake is reported before anything runs.
    """

    kind: ClassVar[str]  # of folder, one of layout.KINDS

    def __init__(self, *args: Any, **kwargs: Any):
        with one_line_errors():
            super().__init__(*args, **kwargs)
            key_of(self.fingerprint)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the result depends on, as plain values; raises BadInput for parameters that do not fit."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The name of the folder without its key."""
        raise NotImplementedError

    def make(self) -> None:
        """Compute the result and publish it in self.folder."""
        raise NotImplementedError

    @property
    def identity(self) -> dict[str, Any]:
        """What the key in the folder's name stands for."""
        return self.fingerprint

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the result."""
        return layout.keyed(data_folder(), f"{layout.folder_of(self.kind)}/{self.label}", self.identity)

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of what is required, for tasks that name what they require."""
        return {name: task.folder for name, task in self.requires().items()}

    def why_missing(self) -> str | None:
        """Return in words why the folder does not hold the result, or None when it does."""
        return publishing.why_incomplete(self.folder, self.fingerprint)

    def output(self) -> Result:
        """Return the result as a Luigi target."""
        return Result(self)

    def run(self) -> None:
        """Make the result unless another process made it while this one waited for its turn."""
        with publishing.claimed(layout.lock_of(data_folder(), self.folder)):
            if not self.complete():
                self.make()

    def in_child(self, function: str, **arguments: Any) -> Any:
        """Return what a function of pipeline/, `module:function`, returns in a child; progress is shown."""
        with ShownProgress(self) as progress:
            return run_in_child(function, _plain(arguments), progress)

    def in_process(self, function: str, **arguments: Any) -> Any:
        """Return what a function of pipeline/, `module:function`, returns here; planning does not load it."""
        return resolve(function)(**arguments)

    def __repr__(self) -> str:
        """Return the task's name with the parameters that say something; unset overrides are left out."""
        said = [
            f"{name}={parameter.serialize(value)}"
            for name, parameter in self.get_params()
            if parameter.significant and (value := getattr(self, name)) not in (None, (), {})
        ]
        return f"{self.task_family}({', '.join(said)})"


class DerivedTask(Task):
    """A result that shows those of other tasks, and is made again when one of those was."""

    @property
    def sources(self) -> Sequence[Task]:
        """The tasks whose results are shown."""
        raise NotImplementedError

    @property
    def facts(self) -> dict[str, Any]:
        """What tells whether the sources are still those that are shown."""
        return {"sources": [stamp_of(task.folder) for task in self.sources]}

    def requires(self) -> Any:
        """Return the sources."""
        return self.sources

    def complete(self) -> bool:
        """Say whether the result is whole and of the sources as they are now."""
        if not (super().complete() and all(task.complete() for task in self.sources)):
            return False
        return publishing.read_manifest(self.folder).facts == self.facts

    def publish(self, files: list[str]) -> None:
        """Finish the folder of the result."""
        publishing.publish_manifest(self.folder, self.fingerprint, files, self.facts)


def stamp_of(folder: Path) -> str | None:
    """Return the sha256 of a folder's manifest, which changes with anything in it; None without one."""
    path = folder / publishing.MANIFEST
    return publishing.sha256_of(path) if path.is_file() else None


def luigi_command(task: type[luigi.Task], values: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """Return the command that runs a task with values of its parameters, those that are as usual left out.

    Of a parameter that usual has not, the usual value is Luigi's default; None there means always said.
    """
    words = ["luigi", "--module", "tasks", task.__name__]
    for name, value in values.items():
        parameter = getattr(task, name)
        if value != (usual[name] if name in usual else parameter.task_value(task.__name__, name)):
            words += [f"--{name.replace('_', '-')}", parameter.serialize(value)]
    return shlex.join(words)


def _plain(value: Any) -> Any:
    """Return arguments as JSON takes them: paths as text."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return str(value) if isinstance(value, Path) else value
