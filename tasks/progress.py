"""Task progress: a bar on a terminal and messages in Luigi's visualizer."""

import contextlib
import sys
import time
from typing import Any

import luigi
from tqdm import tqdm

REPORT_SECONDS = 1.0  # between messages to the scheduler, which may be on another machine


class ProgressReporter(contextlib.AbstractContextManager["ProgressReporter"]):
    """A `pipeline.progress.Progress` callback, with or without a Luigi task.

    A context manager: on a terminal it draws a bar of stage, rate and time left, and removes it on exit.
    """

    def __init__(self, task: luigi.Task | None = None):
        self._task: Any = task  # Luigi's workers add the methods that message the scheduler
        self._bar: tqdm | None = None
        self._reported = 0.0

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Report that done of total units of a stage are finished."""
        if sys.stderr.isatty():
            self._draw(stage, done, total, unit)
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            with contextlib.suppress(TypeError, AttributeError):  # there is no scheduler outside a worker
                self._task.set_status_message(f"{stage}: {done} of {total or '?'} {unit}")
                if total:
                    self._task.set_progress_percentage(min(100, round(100 * done / total)))

    def _draw(self, stage: str, done: int, total: int, unit: str) -> None:
        if self._bar is None or done < self._bar.n:  # a new stage has started
            self.__exit__()
            scaled = unit == "bytes"
            self._bar = tqdm(
                unit="B" if scaled else f" {unit}", unit_scale=scaled, leave=False, dynamic_ncols=True
            )
        self._bar.total = total or None
        self._bar.set_description(getattr(self._task, "place", "") + stage, refresh=False)
        self._bar.update(done - self._bar.n)
