"""The history of a training, one row per epoch, and the seconds of its stages."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """Rows of one epoch or several, over all stages of a run; seconds count from the start of training."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, epochs: int = 1, **row: Any) -> None:
        """Append a row after so many more epochs, which are numbered from 1."""
        last = self.rows[-1]["epoch"] if self.rows else 0
        self.rows.append({"epoch": last + epochs, "seconds": round(self.seconds, 3), **row})


@dataclass
class Clock:
    """Seconds by stage of a run, measured with a monotonic clock."""

    stages: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)
    _open: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of a `with` block under a name."""
        self._open[name] = time.perf_counter()
        yield
        self.stages = self.so_far()
        del self._open[name]

    def so_far(self) -> dict[str, float]:
        """Return the seconds by stage, including the running ones."""
        now = time.perf_counter()
        running = {name: self.stages.get(name, 0.0) + now - start for name, start in self._open.items()}
        return {**self.stages, **{name: round(seconds, 3) for name, seconds in running.items()}}

    def total(self) -> float:
        """Return the seconds since this clock started, plus those of earlier attempts."""
        return round(time.perf_counter() - self.start, 3)

    def resume(self, seconds: float, stages: dict[str, float]) -> None:
        """Add the seconds of an interrupted attempt."""
        self.start -= seconds
        for name, stage_seconds in stages.items():
            self.stages[name] = round(self.stages.get(name, 0.0) + stage_seconds, 3)
