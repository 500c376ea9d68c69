"""What all tasks of the graph share: a fingerprint, a folder that it names, and safe ways to fill it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import luigi

from pipeline.children import run_in_child
from pipeline.names import resolve
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import claimed, why_incomplete
from tasks.configuration import data_folder
from tasks.parameters import one_line_errors
from tasks.progress import ShownProgress


class PublishedFolder(luigi.Target):
    """A folder that exists once its manifest is there, belongs to the fingerprint, and lists whole files."""

    def __init__(self, path: Path, fingerprint: dict):
        self.path = str(path)
        self.fingerprint = fingerprint

    def exists(self) -> bool:
        """Say whether the folder holds the result of the fingerprint."""
        return self.why_missing() is None

    def why_missing(self) -> str | None:
        """Return in words why it does not, or None when it does."""
        return why_incomplete(Path(self.path), self.fingerprint)


class Task(luigi.Task):
    """A task whose result is a published folder; subclasses define fingerprint, place and make.

    Parameters are checked when a task is created: a mistake is reported before anything runs.
    """

    def __init__(self, *args, **kwargs):
        with one_line_errors():
            super().__init__(*args, **kwargs)
            key_of(self.fingerprint)

    @property
    def fingerprint(self) -> dict:
        """What the result depends on, as plain values; raises BadInput for parameters that do not fit."""
        raise NotImplementedError

    @property
    def place(self) -> str:
        """The folder of the result below the data folder, without the key."""
        raise NotImplementedError

    def make(self) -> None:
        """Compute the result and publish it in self.folder."""
        raise NotImplementedError

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the result: its readable place and the fingerprint's key."""
        return layout.keyed(data_folder(), self.place, self.fingerprint)

    def output(self) -> PublishedFolder:
        """Return the result as a Luigi target."""
        return PublishedFolder(self.folder, self.fingerprint)

    def run(self) -> None:
        """Make the result unless another process made it while this one waited for its turn."""
        with claimed(layout.lock_of(data_folder(), self.folder)):
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


def _plain(value: Any) -> Any:
    """Return arguments as JSON takes them: paths as text."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return str(value) if isinstance(value, Path) else value
