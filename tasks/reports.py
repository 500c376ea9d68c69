"""What reports of several results have in common: they are made again when one of those was."""

from __future__ import annotations

from collections.abc import Sequence

import luigi

from pipeline.storage.publishing import read_manifest
from tasks.results import stamp_of
from tasks.task import Task


class ReportTask(Task):
    """A report; subclasses say which tasks' results it shows, and make it."""

    @property
    def sources(self) -> Sequence[Task]:
        """The tasks whose results are shown."""
        raise NotImplementedError

    @property
    def facts(self) -> dict:
        """What tells whether the sources are still those that are shown."""
        return {"sources": [stamp_of(task.folder) for task in self.sources]}

    def requires(self) -> Sequence[luigi.Task]:
        """Return the sources."""
        return self.sources

    def complete(self) -> bool:
        """Say whether the report is whole and of the sources as they are now."""
        if not (super().complete() and all(task.complete() for task in self.requires())):
            return False
        return read_manifest(self.folder).facts == self.facts
