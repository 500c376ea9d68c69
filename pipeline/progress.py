"""Progress reports of long-running functions.

Long-running functions accept `progress`, a callable `progress(stage, done, total, unit)`: stage is a short
phrase, done and total count units (total is 0 if unknown), unit is a plural noun. Calls are cheap and may be
frequent; the receiver decides how often to display them.
"""

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]


def silent(stage: str, done: int, total: int, unit: str) -> None:
    """Ignore a progress report."""
