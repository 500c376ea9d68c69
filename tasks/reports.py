"""What reports of several results have in common: they are made again when one of those was."""

from __future__ import annotations

from collections.abc import Sequence

import luigi

from pipeline.publishing import publish_manifest, publish_text, published, read_manifest
from pipeline.results.plots import publish_figure
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

    def publish(self, *, tables: dict, texts: dict[str, str], figures: dict[str, tuple]) -> None:
        """Publish tables as CSV, texts, and figures given as (function, arguments…), by their file names."""
        for name, table in tables.items():
            with published(self.folder / name) as scratch:
                table.to_csv(scratch, index=False)
        for name, text in texts.items():
            publish_text(self.folder / name, text)
        for name, (function, *arguments) in figures.items():
            publish_figure(self.folder / name, function, *arguments)
        publish_manifest(self.folder, self.fingerprint, [*tables, *texts, *figures], self.facts)
