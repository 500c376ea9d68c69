"""The history of a training, a row an epoch, and the seconds of its stages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """One row an epoch, over all stages of a run; seconds count from the start of training."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, **row: Any) -> None:
        """Append one epoch; its number follows from the rows before."""
        self.rows.append({"epoch": len(self.rows) + 1, "seconds": round(self.seconds, 3), **row})


@dataclass
class Clock:
    """Seconds by stage of a run, measured on a clock that never goes back."""

    stages: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    _open: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of the block under a name."""
        self._open[name] = time.perf_counter()
        yield
        self.stages = self.so_far()
        del self._open[name]

    def so_far(self) -> dict[str, float]:
        """Return the seconds by stage, that under way included."""
        now = time.perf_counter()
        running = {name: self.stages.get(name, 0.0) + now - began for name, began in self._open.items()}
        return {**self.stages, **{name: round(seconds, 3) for name, seconds in running.items()}}

    def total(self) -> float:
        """Return the seconds since this clock was made, and of the attempts before."""
        return round(time.perf_counter() - self.began, 3)

    def resume(self, seconds: float, stages: dict[str, float]) -> None:
        """Count the seconds of an attempt that was broken off as well."""
        self.began -= seconds
        for name, spent in stages.items():
            self.stages[name] = round(self.stages.get(name, 0.0) + spent, 3)
