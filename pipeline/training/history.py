"""The history of a training: a row an epoch."""

from __future__ import annotations

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
