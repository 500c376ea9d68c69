"""How many training labels a scheme is given: a share of them or a number of each class, and which draw."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import BadInput

ALL_LABELS = "100%"


@dataclass(frozen=True)
class Budget:
    """Labels that are given: share of all (0 … 1), or per_class of each class, and the number of the draw."""

    share: float | None
    per_class: int | None
    draw: int

    def count(self, total: int, classes: int) -> int:
        """Return how many of total labels in so many classes these are, at least one a class."""
        if self.per_class is not None:
            return min(total, self.per_class * classes)
        assert self.share is not None
        return max(min(total, classes), round(self.share * total))


def parse_budget(text: str) -> Budget:
    """Return the budget that text names: `5%` or `25/class`, with `#2` behind it for draw 2 (counted from 0).

    Raises BadInput.
    """
    match = re.fullmatch(r"(?:(\d{1,3}(?:\.\d{1,4})?)%|(\d{1,7})/class)(?:#(\d{1,9}))?", text.strip())
    if not match or (match[2] and not int(match[2])) or (match[1] and not 0 < float(match[1]) <= 100):
        raise BadInput(
            f"labels {text!r}: expected a share such as 5% (up to 100%) or a number of each class such as "
            "25/class, with #1 behind it for another draw"
        )
    share = float(match[1]) / 100 if match[1] else None
    return Budget(share, int(match[2]) if match[2] else None, int(match[3] or 0))
