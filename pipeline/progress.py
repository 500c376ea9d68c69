"""How long work tells its caller where it stands.

Functions that take long accept `progress`, a callable `progress(stage, done, total, unit)`: stage is a
short phrase, done and total count units (total may be 0 when it is not known), unit is a plural noun.
Calls are cheap and may come often; whoever shows them decides how seldom to draw.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]


def silent(stage: str, done: int, total: int, unit: str) -> None:
    """Take a progress report and show nothing."""
