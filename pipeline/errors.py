"""The errors that one message explains; they are shown to users without a stack trace."""

from __future__ import annotations

from collections.abc import Iterable


class HeadstartError(Exception):
    """A mistake or a fault whose message says what happened, what was expected and what to do."""


class BadInput(HeadstartError):
    """The caller asked for something that does not exist or does not fit."""


class DamagedFile(HeadstartError):
    """A file is not what its checksum, manifest or format says."""


class DownloadFailed(HeadstartError):
    """No mirror gave the file."""


class Diverged(HeadstartError):
    """A training's loss stopped being a finite number."""


class ChildFailed(HeadstartError):
    """A child process ended without its result."""


def unknown_name(kind: str, name: str, known: Iterable[object]) -> BadInput:
    """Return the error for a name that is not a row of a table; known is any iterable of names."""
    return BadInput(f"unknown {kind} {name!r}: expected one of {', '.join(sorted(map(str, known)))}")
