"""Show how far a task is: a bar on a terminal, messages in Luigi's visualiser, nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import luigi
from tqdm import tqdm

REPORT_SECONDS = 1.0  # between two messages to the scheduler, which may be on another machine


class ShownProgress:
    """A `pipeline.progress.Progress` for a task, or for none.

    A context manager: the bar of stage, rate and time left, on a terminal only, goes at its end.
    """

    def __init__(self, task: luigi.Task | None = None):
        self._task: Any = task  # a worker gives it the methods that tell the scheduler
        self._bar: tqdm | None = None
        self._reported = 0.0

    def __enter__(self) -> ShownProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Take one report."""
        if sys.stderr.isatty():
            self._draw(stage, done, total, unit)
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self._tell_scheduler(stage, done, total, unit)

    def _draw(self, stage: str, done: int, total: int, unit: str) -> None:
        if self._bar is not None and done < self._bar.n:  # another stage began
            self._bar.close()
            self._bar = None
        if self._bar is None:
            scaled = unit == "bytes"
            self._bar = tqdm(
                unit="B" if scaled else f" {unit}", unit_scale=scaled, leave=False, dynamic_ncols=True
            )
        self._bar.total = total or None
        self._bar.set_description(stage, refresh=False)
        self._bar.update(done - self._bar.n)

    def _tell_scheduler(self, stage: str, done: int, total: int, unit: str) -> None:
        with contextlib.suppress(TypeError, AttributeError):  # outside of a worker there is nobody to tell
            self._task.set_status_message(f"{stage}: {done} of {total or '?'} {unit}")
            if total:
                self._task.set_progress_percentage(min(100, round(100 * done / total)))
