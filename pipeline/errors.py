"""Errors whose message is enough for users; they are printed without a stack trace."""

from __future__ import annotations

from collections.abc import Iterable


class HeadstartError(Exception):
    """An error whose message says what happened, what was expected and what to do."""


class BadInput(HeadstartError):
    """The caller requested something that does not exist or is not valid."""


class DamagedFile(HeadstartError):
    """A file does not match its checksum, manifest or format."""


class DownloadFailed(HeadstartError):
    """No mirror provided the file."""


class Diverged(HeadstartError):
    """The loss of a training is no longer finite."""


class ChildFailed(HeadstartError):
    """A child process ended without a result."""


def unknown_name(kind: str, name: str, valid: Iterable[object]) -> BadInput:
    """Return the error for a name that is not in a table; valid is any iterable of names."""
    return BadInput(f"unknown {kind} {name!r}: expected one of {', '.join(sorted(map(str, valid)))}")
